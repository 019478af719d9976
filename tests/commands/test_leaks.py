"""The same photo in two parts, from the first look to the training."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fieldguide import PhotosError, check
from tests.commands.by_the_report import train


@pytest.fixture
def scenes(tmp_path):
    """Photos that look like photos: blurred patches, 160 x 120, ten of each of two classes."""
    for place, name in enumerate(("ash", "oak")):
        for number in range(10):
            draw = np.random.default_rng([place, number])
            coarse = Image.fromarray(draw.integers(0, 255, (15, 20, 3), dtype=np.uint8))
            path = tmp_path / "photos" / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse.resize((160, 120), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1)).save(path)
    return tmp_path / "photos"


def encoded_again(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        image.convert("RGB").resize((112, 84)).save(target, quality=70)


@pytest.mark.slow
def test_a_photo_encoded_again_at_another_size_is_named_by_check_and_by_train(scenes, tmp_path, small):
    encoded_again(scenes / "train/ash/3.png", scenes / "val/ash/other.jpg")
    (scenes / "val/oak").mkdir()
    draw = np.random.default_rng(99).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(draw).resize((160, 120), Image.Resampling.BICUBIC).save(scenes / "val/oak/new.png")
    report = check(scenes)
    (pair,) = [finding for finding in report.findings if finding.severity == "harm"]
    assert pair.kind == "near_duplicate_across_parts" and set(pair.files) == {"train/ash/3.png", "val/ash/other.jpg"}
    assert report.exit_code == 1
    run = train(scenes, output=tmp_path / "run", overrides=small, quiet=True)
    assert any("1 training photo near a val or test photo" in remark for remark in run.result["remarks"])
    dropped = train(scenes, output=tmp_path / "dropped", overrides=(*small, "data.leaks=drop"), quiet=True)
    rows = {row["file"]: row for row in csv.DictReader((dropped.path / "split.csv").read_text().splitlines())}
    assert rows["train/ash/3.png"]["part"] == "excluded" and "val/ash/other.jpg" in rows["train/ash/3.png"]["reason"]
    shutil.copy(scenes / "train/ash/5.png", scenes / "val/ash/exact.png")
    with pytest.raises(PhotosError, match=r"train/ash/5\.png is the same photo as val/ash/exact\.png"):
        train(scenes, output=tmp_path / "refused", overrides=small, quiet=True)


def test_copies_that_are_too_many_for_a_group_leak_all_the_same(scenes, tmp_path, small):
    """One picture twelve times, eleven of them in train: a chain of look-alikes, which no split keeps together."""
    (scenes / "val/ash").mkdir(parents=True)
    (scenes / "val/oak").mkdir()
    draw = np.random.default_rng(99).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(draw).resize((160, 120), Image.Resampling.BICUBIC).save(scenes / "val/oak/new.png")
    with Image.open(scenes / "train/ash/3.png") as image:
        for number in range(11):
            part = "val" if number == 10 else "train"
            image.convert("RGB").save(scenes / part / f"ash/copy{number:02d}.jpg", quality=60 + 3 * number)
    kinds = [finding.kind for finding in check(scenes).findings]
    assert "look_alikes" in kinds and "near_duplicate_across_parts" in kinds
    one_epoch = (*small, "training.max_epochs=1")
    run = train(scenes, output=tmp_path / "run", overrides=one_epoch, quiet=True)
    told = next(remark for remark in run.result["remarks"] if "training photos near a val or test photo" in remark)
    assert told.startswith("11 training photos")
    dropped = train(scenes, output=tmp_path / "dropped", overrides=(*one_epoch, "data.leaks=drop"), quiet=True)
    rows = csv.DictReader((dropped.path / "split.csv").read_text().splitlines())
    out = {row["file"]: row["reason"] for row in rows if row["part"] == "excluded"}
    assert len(out) == 11 and set(out.values()) == {"belongs with val/ash/copy10.jpg"}
    assert all(file.startswith("train/ash/copy") or file == "train/ash/3.png" for file in out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_split_keeps_a_photo_and_its_copy_together(scenes, tmp_path, small, seed):
    for number in range(8):
        encoded_again(scenes / f"train/ash/{number}.png", scenes / f"train/ash/copy-of-{number}.jpg")
    settings = (*small, f"split.seed={seed}", "split.validation_share=0.3", "training.max_epochs=1")
    run = train(scenes, output=tmp_path / "run", overrides=settings, quiet=True)
    part = {row["file"]: row["part"] for row in csv.DictReader((run.path / "split.csv").read_text().splitlines())}
    assert all(part[f"train/ash/{i}.png"] == part[f"train/ash/copy-of-{i}.jpg"] for i in range(8))
    assert "val" in part.values()


def test_a_training_tells_what_check_finds_and_it_does_not_refuse(scenes, tmp_path, small, capsys):
    for name in ("ash", "oak"):
        for part in ("val", "test"):
            (scenes / part / name).mkdir(parents=True)
            shutil.copy(scenes / "train" / name / "9.png", scenes / part / name / "0.png")
        (scenes / "train" / name / "9.png").unlink()
    shutil.copy(scenes / "train/ash/0.png", scenes / "train/oak/copy.png")
    run = train(scenes, output=tmp_path / "run", overrides=small)
    labels, tested = (next(said for said in run.result["remarks"] if what in said) for what in ("labels", "in test"))
    assert labels.startswith("1 photo has two labels; one must be wrong:")
    assert "train/ash/0.png" in labels and "train/oak/copy.png" in labels
    assert tested.startswith("2 photos are in val and in test.") and "test accuracy may be too high" in tested
    assert "1 photo has two labels; one must be wrong" in " ".join(capsys.readouterr().out.split())
