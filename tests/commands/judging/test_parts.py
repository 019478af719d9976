"""Which photos an evaluation takes: by their content, where it says that they are the run's."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fieldguide import PhotosError, UsageError, evaluate
from fieldguide.commands.judging.parts import choose_part
from fieldguide.data.look.scan import scan
from fieldguide.data.split.partition import Split, read_split, write_split
from tests.conftest import write_photo

RUNS_OWN = "using the val photos of the run's split"


@pytest.fixture
def season(trained, tmp_path):
    """(photos, run): the small training as if its validation photos had been set apart in class folders."""
    photos, made = trained
    run = Path(shutil.copytree(made.path, tmp_path / "run"))
    rows = []
    for row in read_split(run / "split.csv").rows:
        if row.part in ("train", "val"):
            part, name, file = row.file.split("/")
            rows.append(replace(row, file=f"{name}/{part}-{file}"))
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / row.file, tmp_path / "photos" / rows[-1].file)
    write_split(run / "split.csv", Split(tuple(rows)))
    return tmp_path / "photos", run


def chosen(season, part=None):
    """(part, names of the photos, remarks)."""
    name, photos, remarks = choose_part(scan(season[0]), read_split(season[1] / "split.csv"), part)
    return name, [photo.file for photo in photos], remarks


def of_another_season(photos, files):
    for number, file in enumerate(files):
        write_photo(photos / file, 7, 9_000 + number)


def test_the_runs_own_photos_are_known_by_name_and_content(season, trained):
    names = [row.file for row in read_split(season[1] / "split.csv").part("val")]
    assert chosen(season) == ("val", names, [RUNS_OWN]) == chosen(season, "val")
    assert len(chosen(season, "train")[1]) == 37
    found = evaluate(season[1], season[0], quiet=True)
    assert found.figures["accuracy"] == trained[1].result["validation"]["accuracy"] and RUNS_OWN in found.remarks


def test_photos_of_another_season_are_not_the_runs_because_they_have_its_names(season):
    of_another_season(season[0], chosen(season, "val")[1] + chosen(season, "train")[1])
    part, names, remarks = chosen(season)
    assert part == "all" and len(names) == 49
    assert len(remarks) == 1 and remarks[0].startswith(
        "12 photos named like the run's validation photos, but with other"
    )
    with pytest.raises(UsageError, match="has no val/, and none of its photos are in the run's split"):
        chosen(season, "val")
    (season[0].parent / "other").mkdir()
    season[0].rename(season[0].parent / "other" / "train")
    with pytest.raises(UsageError) as error:  # it has a train folder, so nothing is said of that
        choose_part(scan(season[0].parent / "other"), read_split(season[1] / "split.csv"), "train")
    assert "has no val/, so only the run's split can say which photos are train, and none of its photos" in str(
        error.value
    )
    (season[0].parent / "other" / "train").rename(season[0])
    found = evaluate(season[1], season[0], quiet=True)
    assert found.part == "all" and found.figures["images"] == 49 and RUNS_OWN not in found.remarks


def test_where_some_of_the_runs_photos_changed_they_are_named_and_nothing_is_left_out(season):
    changed = chosen(season)[1][:2]
    of_another_season(season[0], changed)
    with pytest.raises(PhotosError, match="2 of 12 val photos changed since the run was trained") as error:
        chosen(season)
    assert all(file in str(error.value) for file in changed) and "Put them back" in str(error.value)
    assert len(chosen(season, "train")[1]) == 37


def test_photos_of_the_run_that_are_not_here_are_counted(season):
    for file in chosen(season)[1][:2]:
        (season[0] / file).unlink()
    assert chosen(season)[2] == [RUNS_OWN, "2 of the run's 12 val photos are missing here"]


def test_what_nobody_can_compare_counts_by_its_name(season):
    split, first = read_split(season[1] / "split.csv"), chosen(season)[1][0]
    (season[0] / first).write_bytes(b"")
    assert first in chosen(season)[1]  # it cannot be read, which judging tells
    of_another_season(season[0], [row.file for row in split.rows])
    write_split(season[1] / "split.csv", Split(tuple(replace(row, content_hash="") for row in split.rows)))
    assert chosen(season)[0] == "val" and len(chosen(season)[1]) == 12


def test_a_test_folder_without_photos_is_told_and_validation_taken_where_no_part_is_asked_for(trained, tmp_path):
    photos, run = Path(shutil.copytree(trained[0], tmp_path / "photos")), trained[1].path
    for path in (photos / "test").rglob("*.png"):
        path.rename(path.with_suffix(".xyz"))
    why = "test/ has class folders, but no file in them has an image ending"
    with pytest.raises(UsageError, match=f"class folders and photos in them; {why}"):
        evaluate(run, photos, part="test", quiet=True)
    found = evaluate(run, photos, quiet=True)
    assert found.part == "val" and found.figures["images"] == 12 and why in found.remarks
