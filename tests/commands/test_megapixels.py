"""What the recipe says of a photo's size holds after the training as well, wherever the model that it made is used."""

import csv
import json
import shutil

import pytest

from fieldguide import evaluate, load, predict
from fieldguide.commands.trial import keep
from fieldguide.data.read import decode
from fieldguide.data.read.preprocess import Preprocessing
from tests.commands.by_the_report import train
from tests.conftest import write_photo

PHOTO = 40 * 30 / 1e6  # megapixels of the tests' photos
ENOUGH, LARGER = 0.0013, (41, 34)


@pytest.fixture(scope="module")
def bounded(trained, small, tmp_path_factory):
    """(photos, run) of a training whose photos may hardly be larger than they are."""
    settings = (*small, f"data.max_megapixels={ENOUGH}", "training.phases.0.max_epochs=1", "training.rounds=0")
    folder = tmp_path_factory.mktemp("bounded") / "run"
    return trained[0], train(trained[0], output=folder, overrides=settings, quiet=True)


def test_the_bundle_has_the_recipes_bound_and_whoever_loads_it_keeps_to_it(bounded, tmp_path):
    photos, run = bounded
    assert json.loads((run.path / "bundle/model.json").read_text())["max_megapixels"] == ENOUGH
    assert run.load().max_megapixels == load(run.path).max_megapixels == ENOUGH > PHOTO
    shutil.copytree(photos, tmp_path / "photos")
    write_photo(tmp_path / "photos/test/2/large.png", 2, 1, LARGER)
    done = predict(run.path, tmp_path / "photos/test", tmp_path / "p.csv", quiet=True)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["image"] == "2/large.png"]
    assert row["status"] == "failed: has 41 x 34 pixels, over data.max_megapixels 0.0013" and len(done.failed) == 1
    found = evaluate(run.path, tmp_path / "photos", quiet=True)
    assert found.figures["images"] == 9 and [row["file"] for row in found.figures["failed"]] == ["test/2/large.png"]


def test_photos_beyond_the_default_stay_in_every_figure_where_the_recipe_allows_them(
    trained, small, tmp_path, monkeypatch
):
    real, bounds = decode.opened, set()

    def opened(content, reading, least_px):
        """As if the default were so low that it refused every photo."""
        most = reading.max_megapixels
        bounds.add(most)
        return real(content, PHOTO / 2 if most == 200 else reading, least_px)

    monkeypatch.setattr(decode, "opened", opened)
    settings = (*small, "data.max_megapixels=600", "training.phases.0.max_epochs=1", "training.rounds=0")
    run = train(trained[0], output=tmp_path / "run", overrides=settings, quiet=True)
    assert run.result["validation"]["images"] == 12 and run.result["validation"]["failed"] == []
    assert evaluate(run.path, trained[0], quiet=True).figures["images"] == 9
    assert json.loads((run.path / "gallery/index.json").read_text())["photos"] and bounds == {600}


def test_the_pictures_of_a_report_keep_to_the_bound(trained):
    path = next((trained[0] / "val").rglob("*.png"))
    preprocessing = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
    for bound, count in ((ENOUGH, 1), (PHOTO / 2, 0)):
        assert len(list(keep._read(["a"], {"a": 0}, {"a": path}, preprocessing, bound))) == count
