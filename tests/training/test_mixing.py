import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldguide.training.checkpoint import best_weights_of, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved, train
from fieldguide.training.loss import loss_of
from fieldguide.training.mixing import Mix, Mixing, before, cut
from fieldguide.training.observers import Observers
from fieldguide.training.step import MicroBatch, StepSettings, train_step
from tests.training.test_checkpoint import made, outcome, stopping_after
from tests.training.test_loop import PLAN, Diary
from tests.training.test_loop import network as small_network

SIDE = 12
BOTH = Mixing(mixup_alpha=0.4, cutmix_alpha=1.0, probability=1.0, seed=3)
MIXUP, CUTMIX = dataclasses.replace(BOTH, cutmix_alpha=0), dataclasses.replace(BOTH, mixup_alpha=0)


def some_images(count=7):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def some_labels(count=7):
    return torch.arange(count) % 4


def draws(mixing, count=300, side=SIDE):
    return [mixing.draw(epoch, step, side, side) for epoch in range(1, 4) for step in range(count // 3)]


def test_cutmix_share_is_the_share_of_pixels_that_are_the_photos_own():
    photos = torch.arange(5.0)[:, None, None, None].expand(5, 3, SIDE, SIDE).contiguous()
    for mix in draws(CUTMIX):
        mixed = mix.images(photos)
        own = (mixed == photos).double().mean(dim=(1, 2, 3))
        assert torch.allclose(own, torch.full((5,), mix.share, dtype=torch.float64), atol=1e-12)
        pasted = mixed != photos
        assert torch.equal(mixed[pasted], before(photos)[pasted])


def test_a_box_at_the_edge_is_cut_off_and_leaves_the_photo_more():
    assert cut(0.75, 0.5, 0.5, 100, 40) == Mix(0.75, (10, 25, 30, 75))
    assert cut(0.75, 0.0, 0.0, 100, 40) == Mix(1 - 10 * 25 / 4000, (0, 0, 10, 25))
    assert cut(1.0, 0.99, 0.99, 100, 40).share == 1.0
    assert cut(0.0, 0.5, 0.5, 100, 40) == Mix(0.0, (0, 0, 40, 100))


def test_mixup_is_the_mean_of_photo_and_partner_weighted_by_the_share():
    photos = some_images()
    for mix in draws(MIXUP, 30):
        expected = mix.share * photos + (1 - mix.share) * photos.roll(1, 0)
        assert mix.box is None and torch.allclose(mix.images(photos), expected, atol=1e-6)


def test_the_partner_of_a_label_is_the_partner_of_its_photo():
    photos = some_images(5)
    assert torch.equal(before(torch.arange(5)), torch.tensor([4, 0, 1, 2, 3]))
    assert torch.equal(Mix(0.0).images(photos), photos[[4, 0, 1, 2, 3]])


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_batch_of_any_size_is_mixed_and_the_photos_stay_as_they_were(mixing, count):
    photos = some_images(count).contiguous(memory_format=torch.channels_last)
    kept = photos.clone()
    mixed = mixing.draw(1, 0, SIDE, SIDE).images(photos)
    assert mixed.shape == photos.shape and torch.equal(photos, kept)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    if count == 1:
        assert torch.allclose(mixed, photos)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX])
def test_the_loss_is_the_cross_entropy_against_the_mixed_soft_labels(mixing, smoothing):
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    labels = some_labels()
    for mix in draws(mixing, 30):
        soft = mix.share * functional.one_hot(labels, 4) + (1 - mix.share) * functional.one_hot(before(labels), 4)
        expected = functional.cross_entropy(logits, soft, label_smoothing=smoothing)
        loss = loss_of(logits, labels, before(labels), name="cross_entropy", label_smoothing=smoothing, mix=mix)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_shares_follow_the_beta_distribution_of_their_alpha():
    for alpha in (0.2, 1.0, 8.0):
        shares = np.array([mix.share for mix in draws(dataclasses.replace(MIXUP, mixup_alpha=alpha), 3000)])
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    small = [mix.share for mix in draws(dataclasses.replace(MIXUP, mixup_alpha=1e-300))]
    assert all(share in (0.0, 1.0) for share in small)


def test_the_probability_is_the_share_of_batches_that_are_mixed_half_of_them_each_way():
    found = draws(dataclasses.replace(BOTH, probability=0.6), 3000)
    mixed = [mix for mix in found if mix is not None]
    assert len(mixed) / len(found) == pytest.approx(0.6, abs=0.04)
    assert sum(mix.box is not None for mix in mixed) / len(mixed) == pytest.approx(0.5, abs=0.05)
    assert set(draws(dataclasses.replace(BOTH, mixup_alpha=0, cutmix_alpha=0))) == {None}


def test_a_mix_depends_on_seed_epoch_and_step_alone():
    assert BOTH.draw(2, 5, SIDE, SIDE) == BOTH.draw(2, 5, SIDE, SIDE)
    others = [BOTH.draw(2, 6, SIDE, SIDE), BOTH.draw(3, 5, SIDE, SIDE),
              dataclasses.replace(BOTH, seed=4).draw(2, 5, SIDE, SIDE)]  # fmt: skip
    assert BOTH.draw(2, 5, SIDE, SIDE) not in others
    state = torch.get_rng_state()
    draws(BOTH, 9)
    assert torch.equal(state, torch.get_rng_state())


def network(seed=0):
    """With batch normalisation, frozen."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    made[1].eval()
    return made


def step(mix, *, micro_batch=2**31, smoothing=0.1, images=None):
    """(network after a step, its loss, the count of right answers)."""
    model, images = network(), some_images() if images is None else images
    settings = StepSettings(smoothing, None, contextlib.nullcontext, MicroBatch(micro_batch))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, correct = train_step(model, optimizer, images, some_labels(len(images)), settings, mix)
    return model, float(loss), int(correct)


@pytest.mark.parametrize("mix", [Mix(0.3), cut(0.4, 0.6, 0.4, SIDE, SIDE)])
@pytest.mark.parametrize("photos", [2, 3, 4])
def test_micro_batches_of_a_mixed_batch_make_the_step_of_the_whole_one(mix, photos):
    whole, loss, correct = step(mix)
    pieces, piece_loss, piece_correct = step(mix, micro_batch=photos)
    assert piece_loss == pytest.approx(loss, rel=1e-6) and piece_correct == correct
    for mine, right in zip(pieces.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(mine, right, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_step_counts_the_class_with_the_larger_share_as_right_and_tells_the_loss_it_minimised(share):
    mix = Mix(share)
    _, loss, correct = step(mix)
    logits, labels = network()(mix.images(some_images())).detach(), some_labels()
    soft = share * functional.one_hot(labels, 4) + (1 - share) * functional.one_hot(before(labels), 4)
    assert correct == int((logits.argmax(dim=1) == soft.argmax(dim=1)).sum())
    assert loss == pytest.approx(float(functional.cross_entropy(logits, soft, label_smoothing=0.1)), rel=1e-5)


def test_a_step_without_mix_is_to_the_bit_what_it_was():
    model, loss, correct = step(None)
    other = network()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    logits = other(some_images())
    expected = functional.cross_entropy(logits, some_labels(), label_smoothing=0.1)
    expected.backward()
    optimizer.step()
    assert loss == float(expected.detach()) and correct == int((logits.argmax(dim=1) == some_labels()).sum())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_step_that_ran_out_of_memory_is_done_again_with_the_same_mix(monkeypatch):
    from fieldguide.training import step as steps

    expected, _, _ = step(Mix(0.3), micro_batch=3)
    original, seen = steps._gradients, []

    def cramped(model, images, labels, partners, settings, mix, photos):
        seen.append(images)
        if settings.micro_batch.photos > 3:
            raise torch.OutOfMemoryError("no memory")
        return original(model, images, labels, partners, settings, mix, photos)

    monkeypatch.setattr(steps, "_gradients", cramped)
    model, _, _ = step(Mix(0.3), micro_batch=6)
    assert len(seen) == 2 and torch.equal(*seen)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_mixed_training_goes_on_after_any_step_as_if_it_had_not_been_stopped(tmp_path):
    def tools():
        return dataclasses.replace(made("sgd", "plateau"), draw_mix=BOTH.draw)

    whole, plain = small_network(), small_network()
    expected = outcome(whole, train(whole, PLAN, tools(), Observers([Diary(whole)]), lambda: None))
    assert (
        outcome(plain, train(plain, PLAN, made("sgd", "plateau"), Observers([Diary(plain)]), lambda: None)) != expected
    )
    for steps in (2, 7, 13):
        checkpoints, model = Checkpoints(tmp_path / str(steps), 1e9), small_network()
        train(model, PLAN, tools(), Observers([Diary(model), checkpoints]), stopping_after(steps))
        again = small_network()
        found = checkpoints.newest(again)
        saved = Saved(state_of(found.snapshot.plain["state"], PLAN, best_weights_of(found.snapshot)), found.snapshot)
        assert (
            outcome(again, train(again, PLAN, tools(), Observers([Diary(again), checkpoints]), lambda: None, saved))
            == expected
        )


def test_a_training_that_mixes_nothing_is_to_the_bit_one_that_knows_of_no_mixing():
    ours, theirs = small_network(), small_network()
    off = dataclasses.replace(BOTH, mixup_alpha=0, cutmix_alpha=0)
    mine = train(
        ours,
        PLAN,
        dataclasses.replace(made("adam", "plateau"), draw_mix=off.draw),
        Observers([Diary(ours)]),
        lambda: None,
    )
    expected = train(theirs, PLAN, made("adam", "plateau"), Observers([Diary(theirs)]), lambda: None)
    assert outcome(ours, mine) == outcome(theirs, expected)
