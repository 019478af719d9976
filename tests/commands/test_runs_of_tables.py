"""A run remembers the table that it was trained from: columns, photos folder, and what the table said."""

import json
import shutil

import pytest

from fieldguide import PhotosError, evaluate, resume
from fieldguide.data.split.partition import read_split
from tests.commands.as_people_have_them import SETTINGS, lines, table
from tests.commands.by_the_report import train

MORE = ("training.more_epochs=1",)


@pytest.fixture(scope="module")
def from_table(tmp_path_factory):
    """(table, photos, run): columns that were told, photos elsewhere; not to be changed."""
    root = tmp_path_factory.mktemp("table")
    build = table(lines("{f};{i};{c};{g}", "image;label;animal;camera"), inside=False)
    given = build(root)
    told = {"photos_folder": given["photos_folder"], "columns": "label=animal,group=camera"}
    run = train(given["photos"], output=root / "run", overrides=SETTINGS, quiet=True, **told)
    return given["photos"], given["photos_folder"], run.path


@pytest.fixture
def moved(from_table, tmp_path):
    """The same, copied so that it may be changed."""
    path, photos, run = from_table
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(path, tmp_path / "labels.csv")
    return tmp_path / "labels.csv", tmp_path / "photos", tmp_path / "run"


def test_the_request_has_table_columns_and_folder_and_the_split_has_the_groups(from_table):
    path, photos, run = from_table
    request = json.loads((run / "resume.json").read_text())
    assert request["photos"] == str(path.resolve()) and request["photos_folder"] == str(photos.resolve())
    assert request["columns"] == "label=animal,group=camera"
    rows = read_split(run / "split.csv").rows
    assert {(row.file[:3], row.class_name) for row in rows} == {("fox", "fox"), ("owl", "owl")}
    assert {row.group for row in rows} == {"fox0.png", "fox2.png", "owl0.png", "owl2.png"}


def test_it_resumes_without_being_told_where_anything_is(moved):
    assert resume(moved[2], overrides=MORE, quiet=True).result["epochs"] == 2


def test_a_folder_is_where_the_photos_of_its_table_are_now(from_table, moved):
    assert resume(moved[2], moved[1], overrides=MORE, quiet=True).result["epochs"] == 2


def test_a_label_that_has_changed_is_named(moved):
    path, photos, run = moved
    train_file = next(row.file for row in read_split(run / "split.csv").part("train") if row.class_name == "fox")
    number = train_file[3]
    path.write_text(path.read_text().replace(f"{train_file};{number};fox", f"{train_file};{number};owl"))
    with pytest.raises(PhotosError, match=rf"{train_file} is owl now, was fox"):
        resume(run, path, photos_folder=photos, overrides=MORE, quiet=True)


def test_a_split_of_a_run_is_a_table_that_gives_the_same_split(from_table, tmp_path):
    _, photos, run = from_table
    again = train(run / "split.csv", output=tmp_path / "again", overrides=SETTINGS, photos_folder=photos, quiet=True)
    assert (again.path / "split.csv").read_text() == (run / "split.csv").read_text()
    judged = evaluate(again.path, run / "split.csv", photos_folder=photos, part="val", quiet=True)
    assert judged.figures["images"] == len(read_split(run / "split.csv").part("val"))


def test_folds_of_a_table_resume(moved, tmp_path):
    path, photos, _ = moved
    told = {"photos_folder": photos, "columns": "label=animal,group=camera", "quiet": True}
    made = train(path, output=tmp_path / "folds", overrides=[*SETTINGS, "split.folds=2"], **told)
    assert made.result["validation"]["images"] == 8
    (made.path / "result.json").unlink()
    shutil.rmtree(made.path / "fold-2")
    assert resume(made.path, quiet=True).result["validation"]["images"] == 8
