import numpy as np
import pytest
import torch

from fieldguide.training import probe as module
from fieldguide.training.probe import MIDDLE, STRONGER, WEAKER, fit_probe


def clusters(classes, photos, width=12, spread=1.0, seed=0):
    """(rows, width) features around a centre a class, and labels."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(0, 1, (classes, width))
    labels = np.repeat(np.arange(classes), photos)
    return (centres[labels] + draw.normal(0, spread, (len(labels), width))).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_is_the_minimum_of_the_regularised_loss_on_standardised_features(classes):
    features, labels = clusters(classes, 40)
    features[:, 0] = features[:, 0] * 100 + 7
    fitted = fit_probe(features, labels, classes, seed=0)
    assert fitted.weight.shape == (classes, 12) and fitted.bias.shape == (classes,)
    scale = torch.tensor(features.std(axis=0))
    weight = (torch.tensor(fitted.weight) * scale).requires_grad_()
    bias = torch.tensor(fitted.bias + fitted.weight @ features.mean(axis=0)).requires_grad_()
    scaled = (torch.tensor(features) - torch.tensor(features.mean(axis=0))) / scale
    loss = torch.nn.functional.cross_entropy(scaled @ weight.T + bias, torch.tensor(labels), reduction="sum")
    # scikit-learn's one row for two classes is the difference of ours, whose norm is twice as large as theirs both.
    penalty = (2 if classes == 2 else 1) * weight.square().sum() / 2
    torch.autograd.backward(fitted.inverse_strength * loss + penalty)
    most = (2 if classes == 2 else 1) * 3e-4 * len(labels) * fitted.inverse_strength  # one row there, two halves here
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1.1 * most


def test_a_constant_feature_does_no_harm():
    features, labels = clusters(3, 20)
    features[:, 3] = 5
    assert np.isfinite(fit_probe(features, labels, 3, seed=0).weight).all()


def test_noise_gets_a_stronger_regularisation_than_clear_classes():
    clear = fit_probe(*clusters(4, 60, spread=0.7), 4, seed=0)
    noise = fit_probe(clusters(4, 60)[0], np.random.default_rng(1).integers(4, size=240), 4, seed=0)
    assert noise.inverse_strength == WEAKER[-1] < clear.inverse_strength


def test_the_strength_is_chosen_on_rows_that_no_candidate_was_fitted_on(monkeypatch):
    features, labels = clusters(3, 50)
    asked = []

    def loss(rows, own, held_out, their, strength, start):
        asked.append((len(rows), len(held_out), {tuple(row) for row in rows} & {tuple(row) for row in held_out}))
        return 1.0 - 0.1 * strength, None

    monkeypatch.setattr(module, "_loss", loss)
    fitted = fit_probe(features, labels, 3, seed=0)
    assert fitted.inverse_strength == STRONGER[-1] and fitted.held_out == 30
    assert asked and all(entry == (120, 30, set()) for entry in asked)


def test_a_fit_starts_from_the_best_before_it_and_the_search_ends_where_the_loss_grows(monkeypatch):
    features, labels = clusters(3, 50)
    asked = []

    def loss(rows, own, held_out, their, strength, start):
        asked.append((strength, start))
        return abs(strength - wanted), strength

    monkeypatch.setattr(module, "_loss", loss)
    monkeypatch.setattr(module, "_fit", lambda *given, start: (np.zeros((3, features.shape[1])), np.full(3, start)))
    for wanted, tried in (
        (0.3, [(0.1, None), (0.3, 0.1), (1.0, 0.3)]),
        (0.01, [(0.1, None), (0.3, 0.1), (0.03, 0.1), (0.01, 0.03)]),
        (0.1, [(0.1, None), (0.3, 0.1), (0.03, 0.1)]),
    ):
        asked.clear()
        fitted = fit_probe(features, labels, 3, seed=0)
        assert fitted.inverse_strength == wanted and asked == tried and fitted.bias.tolist() == [wanted] * 3


def test_a_fit_from_another_strength_ends_where_one_from_nothing_ends():
    for classes in (2, 4):
        features, labels = clusters(classes, 60, spread=0.7)
        start = module._fit(features, labels, 0.3, classes, tolerance=1e-7)
        ends = [module._fit(features, labels, 1.0, classes, tolerance=1e-7, start=first) for first in (start, None)]
        assert np.allclose(ends[0][0], ends[1][0], atol=1e-3) and np.allclose(ends[0][1], ends[1][1], atol=1e-3)
        assert np.abs(ends[0][0] - start[0]).max() > 0.05  # the start is not the end


def test_the_strength_is_chosen_on_the_first_view_and_shared_among_the_views(monkeypatch):
    features, labels = clusters(3, 50)
    both, seen = np.concatenate([features, features + 1_000]), []

    def loss(rows, own, held_out, their, strength, start):
        seen.append((len(rows), len(held_out), max(rows.max(), held_out.max())))
        return abs(strength - 0.3), None

    monkeypatch.setattr(module, "_loss", loss)
    fitted = fit_probe(both, np.concatenate([labels, labels]), 3, seed=0, views=2)
    assert {entry[:2] for entry in seen} == {(120, 30)}
    assert max(entry[2] for entry in seen) < 0  # standardised, the first view is near -1 and the second near 1
    assert (fitted.inverse_strength, fitted.held_out) == (0.15, 30)


def test_wrong_labels_cost_a_bounded_number_of_iterations(monkeypatch):
    """With a fifth of the labels wrong, hundreds of iterations once took a training 44 s past its two minutes."""
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters(20, 30, width=40, spread=2.0)
    draw = np.random.default_rng(0)
    labels = np.where(draw.random(len(labels)) < 0.2, draw.integers(0, 20, len(labels)), labels)
    asked, fit = [], LogisticRegression.fit

    def counted(self, rows, own):
        fit(self, rows, own)
        asked.append((len(rows), int(self.n_iter_.max())))
        return self

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    fit_probe(np.concatenate([features] * 3), np.tile(labels, 3), 20, seed=0, views=3)
    *choosing, (rows, iterations) = asked
    assert (rows, iterations <= module.MOST_ITERATIONS) == (1_800, True)
    assert (
        all(rows <= 600 and iterations <= module.MOST_TO_COMPARE for rows, iterations in choosing) and len(choosing) > 1
    )


@pytest.mark.parametrize("views", [1, 2])
def test_photos_that_belong_together_are_held_out_together(monkeypatch, views):
    features, labels = clusters(3, 50)
    groups = np.arange(150) // 5  # bursts of five
    groups[100:140] = groups[100]  # nearly all of the third class: too large to be held out
    features[:, 0], seen = groups, []

    def loss(rows, own, held_out, their, strength, start):
        seen.append(({float(row[0]) for row in rows} & {float(row[0]) for row in held_out}, np.bincount(their)))
        return strength, None

    monkeypatch.setattr(module, "_loss", loss)
    fit_probe(np.tile(features, (views, 1)), np.tile(labels, views), 3, seed=0, views=views, groups=groups)
    assert seen
    for shared, images in seen:
        assert shared == set() and images.tolist() == [10, 10, 10]


def test_groups_of_one_photo_change_nothing(monkeypatch):
    features, labels = clusters(4, 40)
    plain, grouped = (fit_probe(features, labels, 4, seed=3, groups=each) for each in (None, np.arange(160) + 7))
    assert plain.held_out == grouped.held_out == 32 and np.array_equal(plain.weight, grouped.weight)


def test_with_too_few_photos_to_hold_any_out_the_middle_is_taken_and_said():
    fitted = fit_probe(*clusters(5, 4), 5, seed=0)
    assert (fitted.inverse_strength, fitted.held_out) == (MIDDLE, 0)


def test_the_same_rows_give_the_same_bits():
    features, labels = clusters(4, 40)
    first, second = (fit_probe(features, labels, 4, seed=3) for _ in range(2))
    assert np.array_equal(first.weight, second.weight) and np.array_equal(first.bias, second.bias)


def test_with_many_classes_it_goes_on_although_each_has_little_of_the_gradient():
    features, labels = clusters(200, 6, width=24, spread=0.7)
    weight, bias = module._fit(features, labels, 1.0, 200)
    logits = features @ weight.T + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    gradient = (shares.T @ features + weight) / len(labels)  # of the mean loss with its penalty, at C = 1
    assert np.abs(gradient).max() < 1.1 * 0.03 / 200
