import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fieldguide import PhotosError, UsageError, evaluate, load
from fieldguide.commands.evaluate import show
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.split.partition import Split, read_split, write_split
from fieldguide.model.bundle import load_classifier, write_bundle


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the small run that may be changed."""
    shutil.copytree(trained[1].path, tmp_path / "run")
    return tmp_path / "run"


def test_labelled_test_photos_come_first_and_are_counted_in_the_run(trained, run):
    photos, _ = trained
    found = evaluate(run, photos, json_file=run.parent / "figures.json", quiet=True)
    figures = json.loads((run.parent / "figures.json").read_text())
    assert found.part == "test" and figures == found.figures and found.exit_code == 0
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["accuracy"] == figures["accuracy"] and result["test_evaluations"] == 1
    evaluate(run, photos, quiet=True)
    assert json.loads((run / "result.json").read_text())["test_evaluations"] == 2


def test_the_figures_have_the_keys_of_the_results_validation(trained, run):
    photos, made = trained
    found = evaluate(run, photos, part="val", quiet=True)
    assert set(made.result["validation"]) - {"chose"} <= set(found.figures)
    assert found.figures["accuracy"] == made.result["validation"]["accuracy"]
    assert {row["class"] for row in found.figures["per_class"]} == {"10", "2", "cat"}
    assert sum(row["images"] for row in found.figures["per_class"]) == found.figures["images"] == 12
    assert sum(row["correct"] for row in found.figures["per_class"]) == round(found.figures["accuracy"] * 12)
    wrong = sum(pair["count"] for pair in found.figures["confused_pairs"])
    assert wrong == 12 - round(found.figures["accuracy"] * 12)
    assert json.loads((run / "result.json").read_text())["test"] is None


def test_train_is_evaluated_only_when_asked_for_and_says_what_it_is(trained, run):
    photos, _ = trained
    found = evaluate(run, photos, part="train", quiet=True)
    assert found.figures["images"] == 37 and any("say nothing about new photos" in text for text in found.remarks)


def test_a_bundle_needs_neither_the_run_nor_the_training_photos(trained, run, tmp_path):
    photos, _ = trained
    shutil.copytree(run / "bundle", tmp_path / "elsewhere")
    (tmp_path / "new" / "train").mkdir(parents=True)
    shutil.copytree(photos / "test", tmp_path / "new" / "train", dirs_exist_ok=True)
    shutil.rmtree(run)
    found = evaluate(tmp_path / "elsewhere", tmp_path / "new" / "train", quiet=True)
    assert found.part == "all" and found.figures["images"] == 9
    assert any("training photos unknown" in text for text in found.remarks)


def test_photos_that_were_trained_on_are_noticed_in_a_test(trained, run, tmp_path):
    photos, _ = trained
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(tmp_path / "photos/train/2/001.png", tmp_path / "photos/test/2/renamed.png")
    found = evaluate(run, tmp_path / "photos", quiet=True)
    text = "\n".join(found.remarks)
    assert "the model was trained on 1 of these photos" in text and "test/2/renamed.png is train/2/001.png" in text


def test_a_class_that_the_model_does_not_know_is_refused(run, tmp_path, make_photos):
    other = make_photos(tmp_path / "other", {"train/2": 2, "train/wolf": 2, "test/2": 1, "test/wolf": 1})
    with pytest.raises(PhotosError, match="1 class that the model does not know: wolf; it knows 3"):
        evaluate(run, other, quiet=True)


def test_a_part_that_does_not_exist_is_an_error(run, tmp_path, make_photos):
    other = make_photos(tmp_path / "other", {"train/2": 2, "train/cat": 2, "val/2": 1, "val/cat": 1})
    with pytest.raises(UsageError, match="has no test/ with class folders"):
        evaluate(run, other, part="test", quiet=True)
    with pytest.raises(UsageError, match="must be test, val or train"):
        evaluate(run, other, part="all", quiet=True)


def test_an_unreadable_photo_is_in_no_figure_but_is_named(trained, run, tmp_path):
    photos, _ = trained
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/test/2/bad.jpg").write_bytes(b"no photo")
    found = evaluate(run, tmp_path / "photos", quiet=True)
    assert found.exit_code == 3 and found.figures["images"] == 9
    assert found.figures["failed"] == [{"file": "test/2/bad.jpg", "reason": "is not an image that can be read"}]
    assert "1 test photo unreadable; not counted" in (run / "report.html").read_text()


def test_labels_of_a_flat_test_come_from_a_csv(trained, run, tmp_path):
    photos, _ = trained
    labelled = evaluate(run, photos, quiet=True)
    flat = tmp_path / "flat"
    shutil.copytree(photos / "train", flat / "train")
    (flat / "test").mkdir()
    lines = ["image,label"]
    for place, path in enumerate(sorted((photos / "test").rglob("*.png"))):
        shutil.copy(path, flat / "test" / f"{place}.png")
        lines.append(f"{place}{'' if place % 2 else '.png'},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = evaluate(run, flat, labels=tmp_path / "labels.csv", quiet=True)
    assert found.part == "test" and found.figures["per_class"] == labelled.figures["per_class"]
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "nowhere,2"]))
    again = evaluate(run, flat, labels=tmp_path / "labels.csv", quiet=True)
    assert again.remarks[0] == "1 label without a photo here, such as nowhere"
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(UsageError, match="no class for 1 of 9 photos"):
        evaluate(run, flat, labels=tmp_path / "labels.csv", quiet=True)


def test_indices_do_not_leak(run, tmp_path):
    """The index trap: 2 is the first of ["10", "2", "cat"] by number and the second by text."""
    classifier, description = load_classifier(run / "bundle")
    turned = tuple(reversed(description.classes))
    photo = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(photo)
    before = dict(load(run).predict([photo], top=3)[0].top)
    import dataclasses

    write_bundle(run / "bundle", dataclasses.replace(description, classes=turned), classifier.state_dict())
    after = dict(load(run).predict([photo], top=3)[0].top)
    assert list(description.classes) == ["10", "2", "cat"]
    assert {turned[description.classes.index(name)]: share for name, share in before.items()} == pytest.approx(after)


@pytest.mark.slow
def test_folders_0_to_99_are_predicted_by_name(tmp_path, small, make_photos):
    """A hundred classes whose text order is not their number: 0, 1, 10, 11, ..., 2, 20, ..."""
    from fieldguide import predict
    from tests.commands.by_the_report import train

    for name in map(str, range(100)):
        for part, count in (("train", 3), ("val", 1), ("test", 1)):
            for number in range(count):
                shade = np.full((12, 12, 3), 0, dtype=np.uint8)
                shade[...] = (int(name) % 5 * 60, int(name) // 5 % 5 * 60, int(name) // 25 * 80)
                shade[number + (part == "val") * 4 + (part == "test") * 5] += 3
                path = tmp_path / "photos" / part / name / f"{part}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shade).save(path)
    settings = (
        *small, "data.image_size_px=16", "model.head=linear", "training.batch_size=50",
        "training.phases=[{augmentation: none, method: probe}]", "training.rounds=0",
    )  # fmt: skip
    run = train(tmp_path / "photos", output=tmp_path / "run", overrides=settings, quiet=True)
    assert run.result["validation"]["accuracy"] > 0.5, "too weak to tell"
    predict(run.path, [tmp_path / "photos/test"], tmp_path / "p.csv", quiet=True)
    rows = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    right = sum(label == image.split("/")[0] for image, label, *_ in rows)
    names = list(json.loads((run.path / "bundle/model.json").read_text())["classes"])
    leaked = sum(str(names.index(label)) == image.split("/")[0] for image, label, *_ in rows)
    assert names[:4] == ["0", "1", "10", "11"] and len(rows) == 100
    assert right > 50 and leaked < 15


def test_names_of_classes_are_shown_as_they_are_and_obey_no_terminal(trained, run, capsys):
    found = evaluate(run, trained[0], part="val", quiet=True)
    names = {"10": ":dog:", "2": "[red]two", "cat": "\x1b[2Jcat"}
    rows = [row | {"class": names[row["class"]]} for row in found.figures["per_class"]]
    pairs = [{"actual": ":dog:", "predicted": "\x1b[2Jcat", "count": 1, "images": 4}]
    show(replace(found, figures=found.figures | {"per_class": rows, "confused_pairs": pairs}), Screen())
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.count("[2Jcat") == 2 and out.count(":dog:") == 2 and "[red]two" in out


def test_photos_that_the_runs_split_keeps_together_are_judged_together(trained, run, capsys):
    photos, _ = trained
    plain = evaluate(run, photos, part="val", quiet=True).figures
    split = read_split(run / "split.csv")
    rows = [
        replace(row, group=f"{row.class_name}/first") if row.part == "val" and row.class_name == "cat" else row
        for row in split.rows
    ]
    write_split(run / "split.csv", Split(tuple(rows)))
    figures = evaluate(run, photos, part="val").figures
    cats = sum(row.part == "val" and row.class_name == "cat" for row in rows)
    assert "groups" not in plain and figures["groups"] == figures["images"] - cats + 1
    assert f"n = {figures['images']} in {figures['groups']} groups)" in " ".join(capsys.readouterr().out.split())
    assert figures["accuracy"] == plain["accuracy"] and figures["accuracy_low"] <= plain["accuracy_low"]


def test_the_same_photo_twice_counts_as_one_group(run, trained, tmp_path):
    photos, _ = trained
    shutil.copytree(photos / "test", tmp_path / "new")
    shutil.copy(tmp_path / "new/cat/000.png", tmp_path / "new/cat/again.png")
    figures = evaluate(run, tmp_path / "new", quiet=True).figures
    assert figures["images"] == 10 and figures["groups"] == 9
