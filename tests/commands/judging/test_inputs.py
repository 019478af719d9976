"""The photos of a prediction, however they are given."""

import io
import sys
import tarfile
import zipfile

import pytest

from fieldguide.commands.judging.inputs import gather
from fieldguide.errors import PhotosError, UsageError


@pytest.fixture
def photos(tmp_path, make_photos, monkeypatch):
    """Two photos in each of two folders; the test is in their folder."""
    monkeypatch.chdir(make_photos(tmp_path, {"photos/a": 2, "photos/b": 2}))
    return tmp_path / "photos"


NAMES = ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]


def names(*given):
    return [name for name, _ in gather(list(given)).photos]


def test_a_text_has_one_name_a_line_relative_to_it_or_to_here(photos, tmp_path):
    (photos / "list.txt").write_text("a/000.png\n\n b/001.png \n")
    assert names("photos/list.txt") == ["a/000.png", "b/001.png"]
    (tmp_path / "other.txt").write_bytes("photos\\a\\000.png\r\nphotos/b/001.png\r\n".encode("utf-8-sig"))
    assert names(tmp_path / "other.txt") == ["photos\\a\\000.png", "photos/b/001.png"]


def test_a_table_has_a_column_of_photos(photos):
    (photos / "t.csv").write_text("id;file;label\n1;a/000.png;x\n2;b/000.png;y\n")
    assert names(photos / "t.csv") == ["a/000.png", "b/000.png"]
    (photos / "imagenet.txt").write_text("a/000.png 3\nb/000.png 4\n")
    assert names(photos / "imagenet.txt") == ["a/000.png", "b/000.png"]


def test_a_photo_of_a_list_that_is_missing_keeps_its_row_unless_all_are(photos):
    (photos / "list.txt").write_text("a/000.png\ngone.png\n")
    assert names("photos/list.txt") == ["a/000.png", "gone.png"]
    (photos / "list.txt").write_text("gone.png\n")
    with pytest.raises(UsageError, match=r"none of its photos exists, such as gone\.png; names are relative to"):
        names("photos/list.txt")


def test_a_pattern_takes_photos_in_order(photos):
    (photos / "a" / "note.txt").touch()
    assert names("photos/**/*.png") == [f"photos/{name}" for name in NAMES]
    found = gather([f"{photos}/a/*"])
    assert len(found.photos) == 2 and found.others == 1
    with pytest.raises(UsageError, match=r"photos/\*\.jpg: no file fits this pattern"):
        names("photos/*.jpg")


@pytest.mark.parametrize("text", [b"photos/a/000.png\nphotos/b/001.png\n", b"photos/a/000.png\0photos/b/001.png\0"])
def test_a_list_on_standard_input(photos, monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert names("-") == ["photos/a/000.png", "photos/b/001.png"]


def test_bytes_and_open_files_have_rows(photos):
    content = (photos / "a/000.png").read_bytes()
    with (photos / "a/001.png").open("rb") as file:
        found = gather([content, file, io.BytesIO(content), photos / "b/000.png"])
    assert [name for name, _ in found.photos] == [
        "photo 1", str(photos / "a/001.png"), "photo 3", str(photos / "b/000.png"),
    ]  # fmt: skip
    assert gather(content).photos == [("photo 1", content)]


def test_an_archive_is_a_folder(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in NAMES:
            archive.write(photos / name, name)
        archive.writestr("__MACOSX/a/._000.png", b"")
        archive.writestr("../../evil.png", b"x")
        archive.writestr("/evil.png", b"x")
        archive.writestr("C:\\evil.png", b"x")
    told = []
    found = gather([tmp_path / "p.zip"], told.append)
    assert [name for name, _ in found.photos] == NAMES
    assert "5 photos, read in place" in told[0] and "3 files with a path out of the archive ignored" in told[0]
    assert found.remarks == ["ignored, because systems leave these behind: __MACOSX/ (1 folder)"]
    assert not list(tmp_path.rglob("evil*"))
    gather([tmp_path / "p.zip"], told.append)
    assert told[1].endswith("p.zip: read in place")
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tar:
        tar.add(photos, "photos")
        link = tarfile.TarInfo("photos/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert names(tmp_path / "p.tar.gz") == [f"photos/{name}" for name in NAMES]


def test_archives_that_cannot_be_unpacked_are_refused_in_words(photos, tmp_path, monkeypatch):
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(PhotosError, match=r"bad\.zip: is damaged or of an unknown kind"):
        gather([tmp_path / "bad.zip"])
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.md", "text")
    with pytest.raises(PhotosError, match=r"none\.zip: holds no photos"):
        gather([tmp_path / "none.zip"])
    with zipfile.ZipFile(tmp_path / "cut.zip", "w") as archive:
        archive.write(photos / "a/000.png", "a.png")
    content = (tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(PhotosError, match=r"cut\.zip: is damaged or of an unknown kind \(File is not a zip file\)"):
        gather([tmp_path / "cut.zip"])
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", bytes(5_000_000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2_000_000}))
    with pytest.raises(PhotosError, match=r"bomb\.zip: takes more than half of the free disk"):
        gather([tmp_path / "bomb.zip"])
