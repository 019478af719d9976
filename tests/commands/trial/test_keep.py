"""What a run keeps for its report."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.trial.keep import LABEL_ERRORS_HEADER, keep_for_report, label_errors_csv
from fieldguide.data.split.partition import Row, Split
from fieldguide.deploy.predictor import load_predictor
from fieldguide.evaluation.predictions import Predictions
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description
from fieldguide.run_folder import RunFolder

CLASSES = ("ant", "bee", "crab")
PREPROCESSING = {"image_size_px": 64, "resize_px": 73, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
SECRET = b"<script>alert(1)</script>"


def photos(folder: Path) -> tuple[Split, dict[str, Path]]:
    rng, rows, paths = np.random.default_rng(0), [], {}
    for class_name in CLASSES:
        for place in range(4):
            file = f"val/{class_name}/{place}.jpg"
            paths[file] = folder / file
            paths[file].parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x010E] = SECRET.decode()
            picture.save(paths[file], exif=exif, comment=SECRET)
            rows.append(Row(file, class_name, "val", "00"))
    return Split(tuple(rows)), paths


def run_with_model(path: Path, backbone: str = "resnet18", size: int = 64) -> RunFolder:
    run = RunFolder(path)
    run.make()
    architecture = Architecture(backbone, "linear", None, 0.0, len(CLASSES))
    torch.manual_seed(0)
    preprocessing = PREPROCESSING | {"image_size_px": size, "resize_px": round(size / 0.875)}
    description = Description(architecture, CLASSES, preprocessing, "none")
    write_bundle(run.bundle, description, make_classifier(architecture).state_dict())
    return run


def said(run: RunFolder, split: Split, paths: dict[str, Path]) -> Predictions:
    return judge_photos(load_predictor(run.path, "cpu"), split.part("val"), paths).predictions


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("kept")
    split, paths = photos(folder)
    run = run_with_model(folder / "run")
    run.gallery.mkdir()
    (run.gallery / "999.jpg").write_bytes(b"of an earlier gallery")
    keep_for_report(run, said(run, split, paths), paths, "cpu")
    return run


def test_every_picture_that_the_index_names_is_there_and_no_other(kept: RunFolder):
    index = json.loads(kept.gallery_index.read_text())
    named = {
        entry.get(key) for entry in index["photos"].values() for key in ("thumbnail", "predicted_map", "actual_map")
    }
    assert {file.name for file in kept.gallery.glob("*.jpg")} == named - {None}
    assert index["no_maps"] == "" and any(entry["predicted_map"] for entry in index["photos"].values())


def test_nothing_of_a_photos_metadata_is_kept(kept: RunFolder):
    pictures = [file.read_bytes() for file in kept.gallery.glob("*.jpg")]
    assert pictures and not any(b"script" in content for content in pictures)


def test_the_csv_of_label_errors_has_a_column_to_correct_them_in(kept: RunFolder):
    lines = list(csv.reader(kept.label_errors.read_text().splitlines()))
    assert lines[0] == ["file", "given", "suggested", "confidence", "given_confidence", "correct_class"]
    assert all(line[-1] == "" for line in lines[1:])


@pytest.mark.parametrize(
    ("backbone", "size", "why"), [("vit_tiny_patch16_224", 224, "tokens"), ("resnet18", 32, "one_cell")]
)
def test_a_network_without_a_grid_of_features_has_photos_and_the_reason_why_there_are_no_maps(
    tmp_path: Path, backbone: str, size: int, why: str
):
    split, paths = photos(tmp_path)
    run = run_with_model(tmp_path / "run", backbone, size)
    keep_for_report(run, said(run, split, paths), paths, "cpu")
    index = json.loads(run.gallery_index.read_text())
    assert index["no_maps"] == why and index["photos"]
    assert {entry["thumbnail"] for entry in index["photos"].values()} == {
        file.name for file in run.gallery.iterdir()
    } - {"index.json"}


def test_odd_names_read_back_from_the_likely_label_errors():
    names = ['a "b",.jpg', "old\rmac.jpg", "two\nlines.jpg", "=1+1.jpg", "NA"]
    shares = {"confidence": 0.75, "given_confidence": 0.1}
    text = label_errors_csv([{"file": name, "given": name, "suggested": "x", **shares, "other": 1} for name in names])
    table = pandas.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    assert table["file"].tolist() == table["given"].tolist() == names
    assert table.columns.tolist() == list(LABEL_ERRORS_HEADER) and set(table["correct_class"]) == {""}
