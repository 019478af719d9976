import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldguide.training import loss as losses
from fieldguide.training.optimizer import assert_complete, make_optimizer
from fieldguide.training.step import MicroBatch, StepSettings, train_step, training_mode

IMAGES = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def settings(**changes):
    return StepSettings(
        **{"label_smoothing": 0.0, "gradient_clip_norm": None, "precision": contextlib.nullcontext} | changes
    )


def test_a_step_is_forward_backward_update():
    ours, theirs = network(), network()
    loss, correct = train_step(ours, torch.optim.SGD(ours.parameters(), lr=0.1), IMAGES, LABELS, settings())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    logits = theirs(IMAGES)
    expected = functional.cross_entropy(logits, LABELS)
    expected.backward()
    optimizer.step()
    assert torch.equal(loss, expected.detach()) and int(correct) == int((logits.argmax(1) == LABELS).sum())
    for mine, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, right)


def test_label_smoothing_reaches_the_loss():
    plain, _ = train_step(network(), torch.optim.SGD(network().parameters(), lr=0), IMAGES, LABELS, settings())
    smooth, _ = train_step(
        network(), torch.optim.SGD(network().parameters(), lr=0), IMAGES, LABELS, settings(label_smoothing=0.2)
    )
    logits = network()(IMAGES)
    expected = functional.cross_entropy(logits, LABELS, label_smoothing=0.2).detach()
    assert float(smooth) == pytest.approx(float(expected))
    assert float(smooth) != pytest.approx(float(plain))


def test_a_logit_adjustment_is_in_the_loss_and_its_gradient_and_in_no_count():
    shift = torch.tensor([0.9, 0.05, 0.05]).log()
    ours, theirs = network(), network()
    change = settings(logit_adjustment=shift)
    loss, correct = train_step(ours, torch.optim.SGD(ours.parameters(), lr=0.1), IMAGES, LABELS, change)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    logits = theirs(IMAGES)
    expected = functional.cross_entropy(logits + shift, LABELS)
    expected.backward()
    optimizer.step()
    assert torch.equal(loss, expected.detach()) and int(correct) == int((logits.argmax(1) == LABELS).sum())
    assert not torch.equal((logits + shift).argmax(1), logits.argmax(1))
    for mine, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, right)


def test_gradients_are_scaled_down_to_the_norm():
    model = network()
    before = copy.deepcopy(model)
    train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), IMAGES, LABELS, settings(gradient_clip_norm=0.01))
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_trainable_parameter_is_in_the_optimizer(kind):
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = make_optimizer(model, 0.01, kind=kind, momentum=0.9, weight_decay=1e-4)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()} - {id(model[0].weight)}
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.01 and group["weight_decay"] == 1e-4
    assert type(optimizer).__name__.lower() == kind
    assert group.get("momentum", 0.9) == 0.9


def test_an_optimizer_that_misses_a_parameter_is_noticed():
    model = network()
    incomplete = torch.optim.SGD(list(model.parameters())[1:], lr=0.1)
    with pytest.raises(AssertionError, match="misses parameters"):
        assert_complete(model, incomplete)


def test_frozen_parts_keep_their_batch_normalisation_statistics_and_drop_nothing():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)),
    )
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_mode(model)
    assert model.training and model[1][3].training and not model[0][2].training
    train_step(model, make_optimizer(model, 0.1, kind="sgd", momentum=0, weight_decay=0), IMAGES, LABELS, settings())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("0."))
    assert not torch.equal(before["1.2.running_mean"], after["1.2.running_mean"])


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


@pytest.mark.parametrize("photos", [2, 3, 4, 5])
def test_micro_batches_make_the_step_of_the_whole_batch(photos):
    """Where no batch normalisation trains: the same sums in another order."""
    whole, pieces = convolutions(), convolutions()
    loss, correct = train_step(whole, torch.optim.SGD(whole.parameters(), lr=0.1), IMAGES, LABELS, settings())
    optimizer = torch.optim.SGD(pieces.parameters(), lr=0.1)
    own = settings(micro_batch=MicroBatch(photos))
    piece_loss, piece_correct = train_step(pieces, optimizer, IMAGES, LABELS, own)
    assert float(piece_loss) == pytest.approx(float(loss), rel=1e-6) and int(piece_correct) == int(correct)
    for mine, right in zip(pieces.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(mine, right, rtol=1e-5, atol=1e-7)


def test_micro_batches_are_of_nearly_the_same_size():
    sizes = [len(some) for some in torch.zeros(9, 1).tensor_split(MicroBatch(4).count(9))]
    assert sizes == [3, 3, 3]


@pytest.mark.parametrize(("photos", "sizes"), [(9, [3, 2, 2, 2]), (5, [3, 2]), (3, [3]), (2, [2]), (1, [1])])
def test_no_photo_is_alone_in_its_piece_since_batch_normalisation_needs_two(photos, sizes):
    assert [len(some) for some in torch.zeros(photos, 1).tensor_split(MicroBatch(2).count(photos))] == sizes


class Cramped(nn.Module):
    """Has no memory for more than so many photos at once; its batch normalisation has seen them by then."""

    def __init__(self, network, most, error):
        super().__init__()
        self.network, self.most, self.error = network, most, error
        self.asked = []

    def forward(self, images):
        self.asked.append(len(images))
        made = self.network(images)
        if len(images) > self.most:
            raise self.error
        return made


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_step_without_memory_is_done_again_with_half_as_many_at_once(error):
    model, reference = Cramped(network(), 3, error), network()
    own = settings(micro_batch=MicroBatch(6))
    train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), IMAGES, LABELS, own)
    assert model.asked == [6, 3, 3] and own.micro_batch == MicroBatch(3, was_halved=True)
    train_step(
        reference, torch.optim.SGD(reference.parameters(), lr=0.1), IMAGES, LABELS, settings(micro_batch=MicroBatch(3))
    )
    for name, value in model.network.state_dict().items():  # statistics too: what failed has left no trace
        assert torch.equal(value, reference.state_dict()[name]), name


def test_where_two_photos_are_too_many_the_error_stays():
    model = Cramped(network(), 1, MemoryError())
    with pytest.raises(MemoryError):
        train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), IMAGES, LABELS, settings())
    assert model.asked == [6, 3, 3][:2]


def test_another_error_is_not_taken_for_a_lack_of_memory():
    model = Cramped(network(), 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), IMAGES, LABELS, settings())
    assert model.asked == [6]


def test_another_loss_is_a_function_and_a_line_in_the_table(monkeypatch):
    def squared(logits, labels, label_smoothing):
        return (logits - functional.one_hot(labels, logits.shape[1])).square().mean()

    monkeypatch.setattr(losses, "LOSSES", {**losses.LOSSES, "squared": squared})
    model = network()
    expected = squared(model(IMAGES), LABELS, 0.0)
    found, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), IMAGES, LABELS, settings(loss="squared"))
    assert torch.equal(found, expected.detach())
