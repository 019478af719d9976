import csv
import json
import os
import shutil
import signal
import zipfile

import numpy as np
import pytest
from PIL import Image

from fieldguide import UsageError, evaluate, load, predict
from fieldguide.deploy import origin as origin_module
from fieldguide.deploy import predictor as predictor_module
from fieldguide.deploy import rows as prediction_rows
from fieldguide.errors import Interrupted


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_an_input_in_a_stable_order(trained, tmp_path):
    photos, run = trained
    done = predict(run.path, [photos / "test"], tmp_path / "p.csv", quiet=True)
    rows = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == [f"{c}/{n:03d}.png" for c in ("10", "2", "cat") for n in range(3)]
    assert done.images == 9 and done.exit_code == 0 and all(row["status"] == "ok" for row in rows)
    assert all(row["label"] in ("10", "2", "cat") and 1 / 3 <= float(row["confidence"]) <= 1 for row in rows)
    content = (tmp_path / "p.csv").read_bytes()
    assert content.startswith(b"image,label,confidence,status\n") and b"\r" not in content
    predict(run.path, [photos / "test"], tmp_path / "again.csv", quiet=True)
    assert (tmp_path / "again.csv").read_bytes() == content


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_in_the_middle_leaves_the_file_before_and_nothing_half_written(
    trained, tmp_path, monkeypatch, name, code
):
    photos, run = trained
    (tmp_path / "p.csv").write_text("before")
    written = []

    def line(fields, *, real=prediction_rows.csv_line):
        written.append(fields)
        if len(written) == 4:
            signal.raise_signal(getattr(signal, name))
        return real(fields)

    monkeypatch.setattr(prediction_rows, "csv_line", line)
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(Interrupted, match=rf"interrupted by {name}; nothing was done yet") as caught:
        predict(run.path, [photos / "test"], tmp_path / "p.csv", quiet=True)
    assert caught.value.exit_code == code and signal.getsignal(getattr(signal, name)) is before
    assert os.listdir(tmp_path) == ["p.csv"] and (tmp_path / "p.csv").read_text() == "before"


def test_a_photo_that_cannot_be_read_keeps_its_row(trained, tmp_path):
    photos, run = trained
    shutil.copytree(photos / "test/2", tmp_path / "in")
    (tmp_path / "in/001a.jpg").write_bytes(b"no photo")
    (tmp_path / "in/notes.txt").write_text("passed over")
    done = predict(run.path, [tmp_path / "in"], tmp_path / "p.csv", top=2, quiet=True)
    rows = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == ["000.png", "001.png", "001a.jpg", "002.png"] and done.exit_code == 3
    failed = rows[2]
    assert failed["status"] == "failed: is not an image that can be read"
    assert failed["label"] == failed["confidence"] == failed["label_2"] == failed["confidence_2"] == ""


def test_photos_in_hidden_folders_are_told(trained, tmp_path, capfd):
    photos, run = trained
    shutil.copytree(photos / "test/2", tmp_path / "in")
    shutil.copytree(photos / "test/2", tmp_path / "in/.new")
    done = predict(run.path, [tmp_path / "in"], tmp_path / "p.csv")
    assert done.images == 3
    assert "begin with a dot: .new/ (3 photos)" in " ".join(capfd.readouterr().out.split())
    shutil.copytree(photos / "test/2", tmp_path / "only/.new")
    with pytest.raises(UsageError, match=r"no photos in(.|\n)*begin with a dot: \.new/ \(3 photos\)"):
        predict(run.path, [tmp_path / "only"], tmp_path / "p.csv", quiet=True)


def test_files_are_named_as_given_and_need_no_image_ending(trained, tmp_path, monkeypatch):
    photos, run = trained
    shutil.copy(photos / "test/2/000.png", tmp_path / "photo.dat")
    monkeypatch.chdir(tmp_path)
    predict(run.path, ["photo.dat", photos / "test/2/001.png"], "p.csv", quiet=True)
    assert [row["image"] for row in rows_of(tmp_path / "p.csv")] == ["photo.dat", str(photos / "test/2/001.png")]


def test_top_adds_labels_whose_confidences_fall_and_sum_to_one(trained, tmp_path):
    photos, run = trained
    predict(run.path, [photos / "test"], tmp_path / "p.csv", top=3, quiet=True)
    rows = rows_of(tmp_path / "p.csv")
    assert len(rows) == 9
    for row in rows:
        shares = [float(row[name]) for name in ("confidence", "confidence_2", "confidence_3")]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=2e-6)
        assert {row["label"], row["label_2"], row["label_3"]} == {"10", "2", "cat"}


def test_a_submission_has_exactly_two_columns_and_may_be_a_zip(trained, tmp_path):
    photos, run = trained
    shutil.copytree(photos / "test/2", tmp_path / "in")
    (tmp_path / "in/zz.jpg").write_bytes(b"no photo")
    predict(run.path, [tmp_path / "in"], tmp_path / "p.csv", format="submission", quiet=True)
    done = predict(run.path, [tmp_path / "in"], tmp_path / "x.zip", format="submission", quiet=True)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    predict(run.path, [tmp_path / "in"], tmp_path / "X.ZIP", format="submission", quiet=True)
    assert (tmp_path / "X.ZIP").read_bytes() == (tmp_path / "x.zip").read_bytes()
    with pytest.raises(UsageError, match=r"Y\.Zip: a .zip needs format submission"):
        predict(run.path, [tmp_path / "in"], tmp_path / "Y.Zip", quiet=True)
    assert lines[0] == "image_name,pred_label" and lines[-1] == "zz," and len(lines) == 5 and done.exit_code == 3
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["prediction.csv"]
        assert archive.read("prediction.csv").decode() == (tmp_path / "p.csv").read_text()


def test_parquet_refuses_what_only_a_csv_can_be(trained, tmp_path):
    photos, run = trained
    for options, words in (({"format": "submission"}, "a submission is a"), ({"spreadsheet_safe": True}, "for a CSV")):
        with pytest.raises(UsageError, match=words):
            predict(run.path, photos / "test", tmp_path / "p.parquet", quiet=True, **options)
    assert not os.listdir(tmp_path)


def test_two_images_of_one_stem_are_an_error_in_a_submission_alone(trained, tmp_path):
    photos, run = trained
    with pytest.raises(UsageError, match=r"10/000\.png and \S+/2/000\.png are both 000\n"):
        predict(run.path, [photos / "test"], tmp_path / "p.csv", format="submission", quiet=True)
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("format", ["csv", "submission"])
def test_a_name_that_would_stand_twice_is_refused_over_all_inputs_with_both_photos(trained, tmp_path, format):
    photos, run = trained
    one, other = (shutil.copytree(photos / "test" / name, tmp_path / name) for name in ("2", "cat"))
    target, name = tmp_path / "p.csv", "000" if format == "submission" else "000.png"
    with pytest.raises(UsageError, match="3 rows would repeat the name of another row") as error:
        predict(run.path, [one, other], target, format=format, quiet=True)
    assert f"{one}/000.png and {other}/000.png are both {name}\n" in str(error.value)
    with pytest.raises(UsageError, match=f"{one}/000.png and {one}/000.png are both") as error:
        predict(run.path, [one / "000.png"] * 2, target, format=format, quiet=True)
    assert "Give each" in str(error.value) and not target.exists()
    if format == "csv":
        assert predict(run.path, tmp_path, target, quiet=True).images == 6  # the folder that they lie in


def test_all_wrong_paths_and_options_are_named_before_the_model_is_loaded(tmp_path):
    with pytest.raises(UsageError) as error:
        predict(tmp_path / "no-run", [tmp_path / "a.jpg", tmp_path / "b"], tmp_path / "p.csv", quiet=True)
    assert "a.jpg: there is no such file or folder" in str(error.value) and str(tmp_path / "b") in str(error.value)
    with pytest.raises(UsageError) as error:
        predict(tmp_path, [tmp_path], tmp_path / "none" / "p.zip", top=0, format="xml", quiet=True)
    for part in ("format xml", "top 0", "a .zip needs format submission", "there is no folder"):
        assert part in str(error.value)


def test_names_come_back_from_the_csv_as_they_were(trained, tmp_path):
    photos, run = trained
    names = ['a "quoted", name.png', "two\nlines.png", "old\rmac.png", "café 🌿.png", "-dash.png", "=sum.png"]
    for name in names:
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(photos / "test/2/000.png", tmp_path / "in" / name)
    predict(run.path, [tmp_path / "in"], tmp_path / "p.csv", quiet=True)
    assert sorted(row["image"] for row in rows_of(tmp_path / "p.csv")) == sorted(names)


def test_spreadsheet_safe_marks_photos_and_classes_that_look_like_formulas(trained, tmp_path):
    photos, run = trained
    for name in ("=sum.png", "-dash.png", "+x.png", "@a.png", "plain.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(photos / "test/2/000.png", tmp_path / "in" / name)
    shutil.copytree(run.path / "bundle", tmp_path / "bundle")
    said = json.loads((tmp_path / "bundle/model.json").read_text())
    said["classes"] = [f"={name}" for name in said["classes"]]
    del said["description_sha256"]
    (tmp_path / "bundle/model.json").write_text(json.dumps(said))
    predict(tmp_path / "bundle", [tmp_path / "in"], tmp_path / "p.csv", top=2, spreadsheet_safe=True, quiet=True)
    rows = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == ["'+x.png", "'-dash.png", "'=sum.png", "'@a.png", "plain.png"]
    assert all(row["label"].startswith("'=") and row["label_2"].startswith("'=") for row in rows)
    with pytest.raises(UsageError, match="spreadsheet_safe: changes names, and format submission needs exact ones"):
        predict(run.path, [tmp_path / "in"], tmp_path / "s.csv", format="submission", spreadsheet_safe=True)


def test_two_files_that_would_be_written_alike_and_a_name_beyond_the_system_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("\udcff.png", "\\xff.png"):
        (tmp_path / "in" / name).touch()
    with pytest.raises(UsageError, match=r"two files would both be written as \\xff\.png"):
        predict(tmp_path, [tmp_path / "in"], tmp_path / "p.csv", quiet=True)
    with pytest.raises(UsageError, match="File name too long"):
        predict(tmp_path, [tmp_path / ("x" * 300)], tmp_path / "p.csv", quiet=True)


def test_the_library_takes_paths_images_and_arrays_alike(trained):
    photos, run = trained
    path = photos / "test/cat/000.png"
    image = Image.open(path)
    predictor = load(run.path)
    answers = predictor.predict([str(path), path, image, np.asarray(image.convert("RGB"))], top=2)
    assert len({answer.top for answer in answers}) == 1 and answers[0].image == str(path) and answers[2].image is None
    assert answers[0].label in predictor.classes and answers[0].top[0] == (answers[0].label, answers[0].confidence)
    odd = predictor.predict([np.zeros((4, 4)), 7, "nowhere.jpg", Image.new("RGBA", (9, 9))])
    assert [answer.status for answer in odd] == ["failed", "failed", "failed", "ok"]
    assert "does not exist" in odd[2].reason and predictor.predict([]) == []
    with pytest.raises(UsageError, match="takes a list of photos"):
        predictor.predict(str(path))


def test_input_name_shape_and_dtype_are_stated_in_the_bundle(trained):
    _, run = trained
    described = json.loads((run.path / "bundle/model.json").read_text())
    assert described["input"] == {"name": "images", "shape": ["batch", 3, 32, 32], "dtype": "float32", "color": "RGB"}
    assert described["preprocessing"]["resize_px"] == round(32 / 0.875) and described["classes"] == ["10", "2", "cat"]
    assert described["backbone"] == "test_resnet" and described["head"]["kind"] == "mlp"


def test_a_batch_size_changes_no_answer(trained):
    photos, run = trained
    files = sorted((photos / "test").rglob("*.png"))
    one, many = (load(run.path).predict(files, batch_size=size) for size in (1, 64))
    assert [a.label for a in one] == [b.label for b in many]
    assert [a.confidence for a in one] == pytest.approx([b.confidence for b in many], abs=1e-5)


def test_an_output_that_cannot_be_written_is_told_before_anything_is_predicted(tmp_path):
    with pytest.raises(UsageError, match=r"output /proc/x\.csv: cannot be written"):
        predict(tmp_path / "no-run", [], "/proc/x.csv", quiet=True)


def test_a_single_folder_needs_no_list(trained, tmp_path):
    photos, run = trained
    assert predict(run.path, photos / "test", tmp_path / "p.csv", quiet=True).images == 9


def test_few_photos_are_served_by_the_plain_model_and_that_is_said(trained, tmp_path, capsys):
    photos, run = trained
    done = predict(run.path, photos / "test", tmp_path / "p.csv")
    assert done.engine == "plain in fp32" and done.images_per_second > 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("images/s by plain in fp32")


def test_an_engine_asked_for_gives_the_plain_answers_within_tolerance(trained, tmp_path):
    photos, run = trained
    predict(run.path, photos / "test", tmp_path / "p.csv", engine="plain", quiet=True)
    done = predict(run.path, photos / "test", tmp_path / "f.csv", engine="folded", quiet=True)
    assert done.engine.startswith("folded in ")
    for one, other in zip(rows_of(tmp_path / "p.csv"), rows_of(tmp_path / "f.csv"), strict=True):
        assert one["image"] == other["image"] and float(one["confidence"]) == pytest.approx(
            float(other["confidence"]), abs=0.05
        )


def test_an_engine_that_does_not_exist_is_refused_with_the_names_that_do(trained, tmp_path):
    photos, run = trained
    for call in (lambda: predict(run.path, photos / "test", tmp_path / "p.csv", engine="turbo", quiet=True),
                 lambda: load(run.path, engine="turbo"),
                 lambda: evaluate(run.path, photos, engine="turbo", quiet=True)):  # fmt: skip
        with pytest.raises(UsageError, match="engine turbo: must be one of auto, plain, openvino, folded, compiled"):
            call()
    assert not (tmp_path / "p.csv").exists()


def test_judging_is_plain_and_figures_of_another_engine_name_it(trained):
    photos, run = trained
    assert "engine" not in evaluate(run.path, photos, part="val", quiet=True).figures
    made = evaluate(run.path, photos, part="val", engine="folded", quiet=True)
    assert made.figures["engine"].startswith("folded in ") and "computed by engine folded" in made.remarks[-1]
    assert "engine plain" in repr(load(run.path)) and "engine plain" in repr(run.load())


def test_large_photos_are_decoded_smaller_where_another_engine_may_serve_and_that_is_said(
    trained, tmp_path, monkeypatch, capsys
):
    _, run = trained
    (tmp_path / "in").mkdir()
    Image.new("RGB", (1200, 900), "green").save(tmp_path / "in/a.jpg")
    seen = []
    center = predictor_module.center
    monkeypatch.setattr(predictor_module, "center", lambda image, how: seen.append(image.size) or center(image, how))
    for engine in ("auto", "plain", "folded"):
        done = predict(run.path, tmp_path / "in", tmp_path / "p.csv", engine=engine)
        said = " ".join(capsys.readouterr().out.split())
        assert done.decoded_smaller == (engine == "folded") == ("1 large JPEG decoded at reduced size" in said)
    load(run.path).predict([tmp_path / "in/a.jpg"])
    assert seen == [(1200, 900), (1200, 900), (300, 225), (1200, 900)]
    monkeypatch.setitem(origin_module.ENGINE_BATCH, "cpu", 1)
    Image.new("RGB", (40, 30), "green").save(tmp_path / "in/b.jpg")
    assert predict(run.path, tmp_path / "in", tmp_path / "p.csv", quiet=True).decoded_smaller == 1


def test_a_photo_or_a_device_is_never_replaced_by_what_was_said_of_it(trained, tmp_path):
    photos, run = trained
    shutil.copy(photos / "test/2/000.png", tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for images in (tmp_path / "a.png", tmp_path):
        with pytest.raises(UsageError, match=r"a\.png: is one of the photos;"):
            predict(run.path, images, tmp_path / "a.png", quiet=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: is a named pipe"):
        predict(run.path, tmp_path / "a.png", tmp_path / "pipe", quiet=True)
    assert (tmp_path / "a.png").read_bytes() == content and (tmp_path / "pipe").is_fifo()


def test_what_needs_more_memory_than_there_is_fails_alone(trained, tmp_path, monkeypatch):
    photos, run = trained
    center = predictor_module.center

    def scarce(image, how):
        if image.size == (41, 30):
            raise MemoryError
        return center(image, how)

    monkeypatch.setattr(predictor_module, "center", scarce)
    answers = load(run.path).predict([photos / "test/2/000.png", Image.new("RGB", (41, 30))])
    assert [answer.status_text for answer in answers] == ["ok", "failed: needs more memory than is available"]


def test_memory_is_bounded_however_many_photos_there_are(trained):
    photos, run = trained
    taken = 0

    def many():
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield photos / "test/2/000.png"

    predictor = load(run.path)
    for done, _ in enumerate(predictor.stream(many(), batch_size=8), start=1):
        assert taken - done <= 3 * 8
    assert done == taken == 1000
