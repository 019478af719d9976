"""A prediction that is interrupted keeps what it has, and goes on to the same bytes."""

import json
import os
import shutil
import zipfile

import pytest

from fieldguide import UsageError, predict
from fieldguide.deploy.unfinished import Rest, Unfinished
from fieldguide.errors import Interrupted
from tests.torture.predictions import trials

PER_BATCH = 32


@pytest.fixture(scope="module")
def many(trained, tmp_path_factory):
    """(photos, run): 150 photos under names of their own, some of which cannot be read."""
    folder, source = tmp_path_factory.mktemp("many") / "photos", trained[0] / "train"
    folder.mkdir()
    images = sorted(source.rglob("*.png"))
    for number in range(150):
        shutil.copyfile(images[number % len(images)], folder / f"{number:03d}.png")
    for number in (3, 40, 149):
        (folder / f"{number:03d}.png").write_bytes(b"no photo")
    return folder, trained[1].path


@pytest.fixture
def killed_after(monkeypatch):
    """killed_after(2, error): the process ends after two batches, in the middle of writing the third."""

    def arrange(batches, error):
        real, done = Unfinished.add, []

        def add(self, rows, engines):
            if len(done) == batches:
                with self.path.open("ab") as file:
                    file.write(b'{"rows": [["half of a ro')
                raise error
            done.append(rows)
            real(self, rows, engines)

        monkeypatch.setattr(Unfinished, "add", add)
        return lambda: monkeypatch.setattr(Unfinished, "add", real)

    return arrange


@pytest.mark.parametrize(
    ("name", "options", "batches"),
    [
        ("a.csv", {"top": 2, "unsure_below": 0.9}, 0), ("a.csv", {"engine": "plain", "spreadsheet_safe": True}, 4),
        ("a.zip", {"format": "submission"}, 2), ("a.parquet", {"top": 2, "engine": "plain"}, 3),
    ],
)  # fmt: skip
def test_the_same_command_with_resume_gives_the_bytes_of_an_uninterrupted_one(
    many, tmp_path, killed_after, name, options, batches
):
    photos, run = many
    whole = predict(run, photos, tmp_path / f"whole-{name}", quiet=True, **options)
    let_live = killed_after(batches, SystemError("killed"))
    with pytest.raises(SystemError):
        predict(run, photos, tmp_path / name, quiet=True, **options)
    assert sorted(os.listdir(tmp_path)) == [f"{name}.partial", f"whole-{name}"]
    let_live()
    done = predict(run, photos, tmp_path / name, resume=True, quiet=True, **options)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert (done.images, done.failed, done.unsure) == (whole.images, whole.failed, whole.unsure)
    assert sorted(os.listdir(tmp_path)) == [name, f"whole-{name}"] and len(done.failed) == 3


def test_a_signal_says_what_is_kept_and_how_to_go_on(many, tmp_path, killed_after):
    photos, run = many
    killed_after(2, KeyboardInterrupt("SIGTERM"))
    words = rf"SIGTERM; {2 * PER_BATCH} of 150 rows are kept in .*a\.csv\.partial; go on with: .* --resume"
    with pytest.raises(Interrupted, match=words):
        predict(run, photos, tmp_path / "a.csv", quiet=True)


def test_what_is_kept_of_another_command_is_not_gone_on_with(many, tmp_path, killed_after):
    photos, run = many
    let_live = killed_after(1, SystemError("killed"))
    with pytest.raises(SystemError):
        predict(run, photos, tmp_path / "a.csv", quiet=True)
    let_live()
    for other in ({"top": 2}, {"engine": "plain"}, {"unsure_below": 0.5}):
        with pytest.raises(UsageError, match="is of another command, or the model or the list of photos has changed"):
            predict(run, photos, tmp_path / "a.csv", resume=True, quiet=True, **other)
    with pytest.raises(UsageError, match="is a device or a pipe"):
        predict(run, photos, "/dev/null", resume=True, quiet=True)
    assert predict(run, photos, tmp_path / "a.csv", quiet=True).images == 150  # starts over
    assert predict(run, photos, tmp_path / "a.csv", resume=True, quiet=True).images == 150  # nothing is kept
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(("number", "again"), [(70, 65), (5, 1)])
def test_a_photo_that_changed_is_predicted_again_and_that_is_said(many, tmp_path, killed_after, caplog, number, again):
    photos, run = tmp_path / "photos", many[1]
    shutil.copytree(many[0], photos)
    let_live = killed_after(4, SystemError("killed"))
    with pytest.raises(SystemError):
        predict(run, photos, tmp_path / "a.csv", engine="plain", quiet=True)
    let_live()
    shutil.copyfile(photos / "100.png", photos / f"{number:03d}.png")
    caplog.set_level("INFO", "fieldguide")
    predict(run, photos, tmp_path / "a.csv", engine="plain", resume=True, quiet=True)
    told = f"photos have changed since they were predicted; all from photo {again} on are done again"
    assert told in caplog.text and "nothing is kept" not in caplog.text
    predict(run, photos, tmp_path / "whole.csv", engine="plain", quiet=True)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_bytes_that_changed_are_seen_and_open_files_are_refused(many, tmp_path, killed_after):
    photos = [(many[0] / f"{number:03d}.png").read_bytes() for number in range(40, 110)]
    let_live = killed_after(2, SystemError("killed"))
    with pytest.raises(SystemError):
        predict(many[1], photos, tmp_path / "a.csv", engine="plain", quiet=True)
    let_live()
    photos[1] = photos[2]
    predict(many[1], photos, tmp_path / "a.csv", engine="plain", resume=True, quiet=True)
    predict(many[1], photos, tmp_path / "whole.csv", engine="plain", quiet=True)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with (many[0] / "000.png").open("rb") as file, pytest.raises(UsageError, match="is an open file, which may have"):
        predict(many[1], [file], tmp_path / "b.csv", resume=True, quiet=True)


def test_the_journal_goes_on_after_its_last_whole_batch(tmp_path):
    kept = Unfinished(tmp_path / "a.csv", "x", 2)
    (tmp_path / "a.csv.partial").write_text('{"format": 2, "abo')
    assert not kept.begin(resume=True)
    rows = [("line\n", "n", "l", "ok", "")] * 2
    kept.add(rows, ["plain"])
    with kept.path.open("a") as file:
        file.write(json.dumps({"rows": rows})[:-3])
    again = Unfinished(tmp_path / "a.csv", "x", 2)
    assert again.begin(resume=True) and again.done == 2 and again.engines == ["plain"]
    again.add(rows[:1], [])
    assert [row.line for row in again.rows()] == ["line\n"] * 3
    assert list(Rest(range(7), 2, 4)) == [0, 1, 4, 5, 6] and len(Rest(range(7), 2, 4)) == 7
    assert list(Rest(range(7), 2, 0)) == list(range(7)) and Rest(range(7), 2, 0).again == 0


def test_predictions_that_are_killed_go_on_to_the_same_bytes(many):
    same, kills = trials(many[1], many[0], 2)
    assert same == 2 and kills


def test_photos_are_sorted_into_folders_by_class_with_unsure_and_failures_apart(many, tmp_path):
    photos, run = many
    done = predict(run, photos, tmp_path / "a.csv", sort_into=tmp_path / "sorted", unsure_below=0.9, quiet=True)
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    for name, label, _, status in rows:
        folder = "failed" if status.startswith("failed") else "unsure" if status == "unsure" else label
        assert (tmp_path / "sorted" / folder / name).read_bytes() == (photos / name).read_bytes()
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "sorted")) == 150
    assert len(os.listdir(tmp_path / "sorted/failed")) == len(done.failed) == 3
    predict(run, photos / "000.png", tmp_path / "b.csv", sort_into=tmp_path / "linked", links=True, quiet=True)
    (link,) = [path for path in (tmp_path / "linked").rglob("*") if not path.is_dir()]
    assert link.is_symlink() and link.resolve() == (photos / "000.png").resolve()
    for wrong, words in (
        ({"sort_into": photos / "in"}, "where the next prediction would find the photos twice"),
        ({"sort_into": tmp_path / "sorted"}, "exists already"),
        ({"links": True}, "is for sort_into"),
    ):
        with pytest.raises(UsageError, match=words):
            predict(run, photos, tmp_path / "c.csv", quiet=True, **wrong)


def test_photos_of_an_archive_are_copied_from_it_and_never_linked(many, tmp_path):
    photos, run = many
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(4):
            archive.write(photos / f"00{number}.png", f"00{number}.png")
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        place = archive.infolist()[1].header_offset
    content[place + 60 : place + 80] = bytes(20)
    packed.write_bytes(content)
    with pytest.raises(UsageError, match="photos in an archive cannot be linked; leave out links"):
        predict(run, packed, tmp_path / "a.csv", sort_into=tmp_path / "sorted", links=True, quiet=True)
    done = predict(run, packed, tmp_path / "a.csv", sort_into=tmp_path / "sorted", quiet=True)
    assert dict(done.failed)["001.png"] == "is damaged in its archive (its checksum differs)"
    copies = {path.name: path.read_bytes() for path in (tmp_path / "sorted").rglob("*.png")}
    assert copies == {f"00{number}.png": (photos / f"00{number}.png").read_bytes() for number in (0, 2, 3)}


def test_a_bound_can_be_raised_and_no_other_field(many, tmp_path):
    photos, run = many
    raised = predict(run, photos, tmp_path / "a.csv", overrides=["data.max_megapixels=600"], quiet=True)
    assert raised.images == 150 and len(raised.failed) == 3
    lowered = predict(run, photos, tmp_path / "b.csv", overrides={"data.max_megapixels": 0.001}, quiet=True)
    assert len(lowered.failed) == 150
    for wrong in ("data.bands=[1,2,3]", "training.seed=1", "data.max_megapixels=0", "data.max_megapixels=many"):
        with pytest.raises(UsageError, match=r"data\.max_megapixels"):
            predict(run, photos, tmp_path / "c.csv", overrides=[wrong], quiet=True)
