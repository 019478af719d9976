"""The features of a probe: all photos in each view, as far as the time goes."""

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch

from fieldguide.assemble import probing
from fieldguide.assemble.probing import _features, _numbers, make_probe
from fieldguide.assemble.tools import _make_features_of
from fieldguide.model.classifier import Classifier
from tests.model.own_backbone import OwnBackbone
from tests.training.stages import phase

PHOTOS = ("a", "b", "c", "d", "e")


def features(views, answers, labels=(0, 0, 0, 0, 0)):
    """What `_features` makes of five photos in batches of two, and what it asked."""
    asked, answers = [], iter(answers)

    def batches(stage, epoch, first_step):
        for start in (0, 2, 4):
            files = PHOTOS[start : start + 2]
            own = torch.tensor(labels[start : start + 2])
            yield SimpleNamespace(images=torch.ones(len(files), 3), labels=own, files=files)

    def goes(photos, is_more):
        asked.append((photos, is_more))
        return next(answers)

    stage = phase(method="probe", views=views)
    return _features(lambda images: images, stage, 1, goes, batches, 3, len(set(labels))), asked


def test_it_asks_after_each_batch_and_says_where_none_is_to_come():
    (rows, labels, files, views), asked = features(2, ["on"] * 6)
    assert (len(rows), len(labels), files, views) == (10, 10, list(PHOTOS), 2)
    assert asked == [(2, True), (2, True), (1, True), (2, True), (2, True), (1, False)]


@pytest.mark.parametrize(
    ("done", "rows", "views"),
    [(2, 4, 1), (3, 5, 1), (5, 5, 1), (6, 10, 2), (8, 10, 2)],  # batches of three views, three a view
)
def test_where_the_time_is_up_a_view_that_is_whole_stays(monkeypatch, done, rows, views):
    monkeypatch.setattr(probing, "PHOTOS_A_CLASS", 1)
    found, asked = features(3, ["on"] * (done - 1) + ["enough"])
    assert (len(found[0]), found[3], len(asked)) == (rows, views, done)


def test_where_the_time_is_up_it_goes_on_until_it_has_a_few_photos_of_each_class(monkeypatch):
    monkeypatch.setattr(probing, "PHOTOS_A_CLASS", 2)
    found, asked = features(3, ["enough"] * 2, labels=(0, 1, 0, 1, 1))
    assert found[1].tolist() == [0, 1, 0, 1] and len(asked) == 2
    assert features(3, ["enough", "stop"], labels=(0, 1, 0, 1, 1))[0] is None
    monkeypatch.setattr(probing, "PHOTOS_A_CLASS", 3)  # more than there are
    found, asked = features(3, ["enough"] * 3, labels=(0, 1, 0, 1, 1))
    assert (len(found[0]), found[3], len(asked)) == (5, 1, 3)


@pytest.mark.parametrize(("views", "seen"), [(1, ["strong"]), (3, ["none", "strong", "strong"])])
def test_the_first_of_several_views_is_the_photo_itself(views, seen):
    asked = []

    def batches(stage, epoch, first_step):
        asked.append((stage.augmentation, epoch))
        yield SimpleNamespace(images=torch.ones(5, 3), labels=torch.tensor([0, 1, 0, 1, 1]), files=PHOTOS)

    stage = phase("strong", method="probe", views=views)
    _features(lambda images: images, stage, 1, lambda *_: "on", batches, 1, 2)
    assert [augmentation for augmentation, _ in asked] == seen and len({epoch for _, epoch in asked}) == views


def test_told_to_stop_there_are_none():
    assert features(1, ["on", "stop"])[0] is None


def test_files_of_one_group_share_a_number():
    numbers = _numbers(list(PHOTOS), {"b": "b", "d": "b"})
    assert numbers[1] == numbers[3] and len(set(numbers.tolist())) == 4
    assert _numbers(list(PHOTOS), {}) is None


class Squares(torch.nn.Module):
    """A backbone of two features that keeps how many photos came at once."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return images


def solved(labels, at_once=100, log_prior=None):
    """A head solved for on made-up features of these labels, its figures, and what its backbone saw."""
    torch.manual_seed(0)
    labels = torch.tensor(labels)
    images = torch.randn(len(labels), 2) + labels[:, None]
    backbone, head = Squares(), torch.nn.Linear(2, int(labels.max()) + 1)
    model = Classifier(OwnBackbone(backbone, 2), head)
    batch = SimpleNamespace(images=images, labels=labels, files=tuple(f"{i:03}" for i in range(len(labels))))
    features_of = _make_features_of(at_once, contextlib.nullcontext)
    probe = make_probe(lambda *_: iter([batch]), features_of, 1, head.out_features, 0, {}, log_prior)
    figures = probe(model, SimpleNamespace(views=1), 1, lambda photos, is_more: "on")
    return model.head, figures, backbone.seen


def test_no_more_photos_go_through_at_once_than_fit():
    head, figures, seen = solved([0, 1] * 10, at_once=8)
    whole, same, at_once = solved([0, 1] * 10)
    assert (seen, at_once) == ([8, 8, 4], [20]) and figures == same and torch.equal(head.weight, whole.weight)


def test_a_head_without_the_prior_answers_as_if_classes_were_equally_frequent():
    labels = [0] * 90 + [1] * 10
    head, figures, _ = solved(labels)
    other, adjusted, _ = solved(labels, log_prior=torch.tensor([0.9, 0.1]).log())
    assert torch.equal(head.weight, other.weight) and adjusted.loss == figures.loss
    taken_off = (head.bias - other.bias).tolist()
    assert taken_off == pytest.approx([math.log(0.9), math.log(0.1)], abs=1e-6)
    assert adjusted.correct != figures.correct  # the rare class is answered more often


@pytest.mark.parametrize(("takes", "width"), [("stages", 3), ("stages_max", 7)])
def test_a_probe_fits_the_head_to_the_features_that_it_takes(takes, width):
    """Classes that only an early stage tells apart: by their brightness, which the last features do not show."""

    class Staged(OwnBackbone):
        stage_widths, map_widths = (1, 2), (1, 3)

        def stage_maps(self, images):
            return [images.mean((1, 2, 3), keepdim=True), torch.zeros(len(images), 3, 2, 1)]

        def pooled(self, features):
            return features[:, :2, 0, 0]

    labels = torch.tensor([0, 1] * 20)
    images = labels.view(-1, 1, 1, 1) + 0.1 * torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(images=images, labels=labels, files=tuple(f"{i:03}" for i in range(40)))
    model = Classifier(Staged(torch.nn.Identity(), 2), torch.nn.Linear(width, 2), takes)
    features_of = _make_features_of(64, contextlib.nullcontext)
    probe = make_probe(lambda *_: iter([batch]), features_of, 1, 2, 0, {}, None)
    figures = probe(model, SimpleNamespace(views=1), 1, lambda photos, is_more: "on")
    assert figures.correct == 40 and torch.equal(model(images).argmax(dim=1), labels)
