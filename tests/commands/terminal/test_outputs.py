"""What a command is told to write never takes the place of what it reads."""

import os
import shutil
from pathlib import Path

import pytest

from fieldguide import UsageError, check, compare, evaluate, predict
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.run_folder import RunFolder
from tests.report.made_up import made_up_run


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    return tmp_path / "photo.jpg"


@pytest.fixture
def run(tmp_path):
    return made_up_run(tmp_path / "run")


def test_a_photo_under_any_of_its_names_is_no_output(photo, tmp_path):
    (tmp_path / "link.jpg").symlink_to(photo)
    os.link(photo, tmp_path / "hard.jpg")
    for name in ("photo.jpg", "link.jpg", "hard.jpg"):
        with pytest.raises(UsageError, match=rf"json_file .*{name}: is one of the photos; choose another file"):
            demand_free_outputs({"--json": tmp_path / name}, [photo])
        with pytest.raises(UsageError, match="is one of the photos"):
            demand_free_outputs({"--json": photo}, [tmp_path / name])
    demand_free_outputs({"--json": tmp_path / "new.json", "--html": None}, [photo, tmp_path / "gone.jpg"])


def test_photos_are_looked_at_only_where_an_output_is_there_already(tmp_path):
    demand_free_outputs({"--json": tmp_path / "new.json"}, (pytest.fail("was looked at") for _ in range(1)))


def test_two_outputs_are_two_files_also_where_neither_is_there_yet(tmp_path):
    (tmp_path / "sub").mkdir()
    outputs = {"--json": tmp_path / "f", "--html": tmp_path / "sub" / ".." / "f"}
    with pytest.raises(UsageError, match=r"json_file and html_file .*: are the same file; choose two files"):
        demand_free_outputs(outputs)


def test_what_else_is_read_is_no_output(photo, tmp_path):
    (tmp_path / "l.csv").write_text("image,label")
    with pytest.raises(UsageError, match=r"l\.csv: is the labels; choose another file"):
        demand_free_outputs({"--json": tmp_path / "l.csv"}, [photo], {"the labels": tmp_path / "l.csv", "more": None})


def test_what_a_training_writes_into_its_run_is_no_output_and_another_name_in_it_is(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    (tmp_path / "link.json").symlink_to(run.result)
    own = (run.result, run.report, run.out_of_fold, run.bundle / "x.json", run.path / "result.before-1.json",
           tmp_path / "link" / "split.csv", tmp_path / "link.json", run.checkpoints / "000001.json")  # fmt: skip
    for path in own:
        with pytest.raises(UsageError, match=f"is a file of {run.path}; choose another file"):
            demand_free_outputs({"--json": path})
    demand_free_outputs({"--json": run.path / "figures.json", "--html": run.path.parent / "result.json"})


def test_a_bundle_without_its_run_is_no_output(tmp_path):
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(UsageError, match=f"{name}: is a file of {tmp_path};"):
            demand_free_outputs({"-o": tmp_path / name})
    demand_free_outputs({"-o": tmp_path / "prediction.csv"})


def test_every_command_that_is_told_where_to_write_holds_to_it(trained, tmp_path):
    photos, run = (
        Path(shutil.copytree(trained[0], tmp_path / "photos")),
        shutil.copytree(trained[1].path, tmp_path / "r"),
    )
    other, photo = made_up_run(tmp_path / "other").path, photos / "test/2/000.png"
    (tmp_path / "link.csv").symlink_to(photo)
    before = {path: path.read_bytes() for path in (photo, RunFolder(run).result, RunFolder(other).result)}
    for act, named in (
        (lambda: evaluate(run, photos, json_file=run / "result.json", quiet=True), "is a file of"),
        (lambda: evaluate(run, photos, json_file=photo, quiet=True), "is one of the photos"),
        (lambda: check(photos, json_file=photo), "is one of the photos"),
        (lambda: check(photos, json_file=tmp_path / "f", html_file=tmp_path / "f"), "are the same file"),
        (lambda: predict(run, photos / "test", tmp_path / "link.csv", quiet=True), "is one of the photos"),
        (lambda: compare([other], csv_file=other / "result.json", quiet=True), "is a file of"),
        (lambda: compare([other], csv_file=tmp_path / "f", html_file=tmp_path / "f", quiet=True), "the same file"),
    ):
        with pytest.raises(UsageError, match=named):
            act()
    assert {path: path.read_bytes() for path in before} == before and not (tmp_path / "f").exists()


def test_the_labels_of_an_evaluation_are_not_replaced_by_its_figures(trained, tmp_path):
    photos, run = shutil.copytree(trained[0], tmp_path / "photos"), trained[1].path
    flat = photos / "test"
    for path in sorted(flat.rglob("*.png")):
        path.rename(flat / f"{path.parent.name}-{path.name}")
    for name in ("10", "2", "cat"):
        (flat / name).rmdir()
    labels = tmp_path / "l.csv"
    labels.write_text("image,label\n" + "".join(f"{p.name},{p.name.split('-')[0]}\n" for p in flat.iterdir()))
    content = labels.read_bytes()
    with pytest.raises(UsageError, match=r"json_file .*l\.csv: is the file of labels; choose another file"):
        evaluate(run, photos, labels=labels, json_file=labels, quiet=True)
    assert labels.read_bytes() == content


def test_a_run_owns_every_file_that_it_has_a_name_for(tmp_path):
    run = RunFolder(tmp_path)
    run.recipe.touch()
    paths = [value for name in vars(RunFolder) if isinstance(value := getattr(run, name), Path)]
    assert len(paths) > 15
    for export in (run.int8, run.export):  # which a person puts there, and may replace
        paths.remove(export)
        assert not run.owns(export.name)
    for path in paths:
        assert run.owns(path.relative_to(tmp_path).parts[0]), path.name
    assert not run.owns("figures.json")
