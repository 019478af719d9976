"""Each classic fault of an export, planted, and the proof that refuses it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldguide.commands.exporting import proof
from fieldguide.commands.exporting.photos import ProofPhotos
from fieldguide.commands.exporting.proof import answers_of, compared, prove
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.split.partition import Row
from fieldguide.deploy.export.exported import Exported
from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.export.resize import Resize
from fieldguide.deploy.export.runtime import Runtime
from fieldguide.deploy.predictor import load_predictor
from tests.conftest import write_photo
from tests.deploy.export.test_graph import CLASSES, bundle_at

PHOTOS = 12
OWN = Preprocessing(32, 40, "bilinear", (0.5, 0.4, 0.3), (0.25, 0.2, 0.15), flips="horizontal")


class InPlace(Runtime):
    """A graph as the runtime of its own export."""

    def __init__(self, members, about, spoil=lambda photos: photos):
        self.about, self._spoil = about, spoil
        self._graph = Graph(members, "photo").eval()

    def compute(self, photos):
        with torch.inference_mode():
            return self._graph(torch.from_numpy(self._spoil(photos).copy())).numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle with mirror images and a temperature, and photos to prove its export on."""
    root = tmp_path_factory.mktemp("proof")
    paths = {}
    for number in range(PHOTOS):
        paths[f"{number}.png"] = root / f"{number}.png"
        write_photo(paths[f"{number}.png"], number % 3 + 1, number, size=(150, 120))
    rows = [Row(name, CLASSES[number % 3], "val", "") for number, name in enumerate(paths)]
    bundle = bundle_at(root / "bundle", OWN, temperature=3.0)
    return bundle, ProofPhotos("val", rows, paths)


def verdict(made, change=lambda members, about: (members, about), spoil=lambda photos: photos):
    bundle, photos = made
    members, about = change(*load_members([bundle], "photo"))
    original = answers_of(load_predictor(bundle, "cpu"), photos)
    return prove(original, Exported(InPlace(members, about, spoil), "test"), photos, "fp32", lambda _: None)


def preprocessed(**changes):
    """Plants a change of the preprocessing."""
    return lambda members, about: (
        [replace(each, preprocessing=replace(each.preprocessing, **changes)) for each in members],
        about,
    )


def test_a_right_export_is_accepted(made):
    found = verdict(made)
    assert found.problems == () and found.figures["same"] == found.figures["images"] == PHOTOS
    assert found.figures["clear"] > 0 and found.figures["largest_difference"] < 1e-3


FAULTS = {
    "crop share": preprocessed(resize_px=32),
    "wrong mean": preprocessed(mean=(0.485, 0.456, 0.406)),
    "flips left out": preprocessed(flips="none"),
    "temperature left out": lambda members, about: ([replace(each, temperature=1.0) for each in members], about),
    "swapped classes": lambda members, about: (members, about | {"classes": [CLASSES[1], CLASSES[0], CLASSES[2]]}),
    "another interpolation": preprocessed(interpolation="bicubic"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_and_the_worst_photos_are_named(made, fault):
    found = verdict(made, FAULTS[fault])
    assert found.problems and found.worst and ".png: " in found.worst[0]


def test_channels_in_another_order_are_refused(made):
    assert verdict(made, spoil=lambda photos: photos[..., ::-1]).problems


def test_a_resize_without_antialias_is_refused(made, monkeypatch):
    def nearest(self, photos):
        channels = photos.permute(0, 3, 1, 2).float()
        small = torch.nn.functional.interpolate(channels, (40, 50), mode="bilinear", align_corners=False)
        return small[:, :, 4:36, 9:41]

    monkeypatch.setattr(Resize, "forward", nearest)
    assert verdict(made).problems


def test_an_answer_that_is_no_number_is_refused(made):
    class Broken(Runtime):
        about = load_members([made[0]], "photo")[1]

        def compute(self, photos):
            return np.full((len(photos), 3), np.nan, np.float32)

    original = answers_of(load_predictor(made[0], "cpu"), made[1])
    found = prove(original, Exported(Broken(), "test"), made[1], "fp32", lambda _: None)
    assert "cannot be compared" in found.problems[0]


def test_a_quantised_model_may_differ_but_must_show_that_it_loses_no_accuracy(made):
    original = answers_of(load_predictor(made[0], "cpu"), made[1])
    same = compared(original, original, "int8")
    assert "points lower" in same.problems[0]  # 12 photos cannot show it
    assert proof.MOST_LOST == 0.01
