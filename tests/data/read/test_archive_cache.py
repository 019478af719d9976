"""Archives in the cache: damaged photos, damaged archives, and what is deleted when."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fieldguide.commands.cache import cache
from fieldguide.data.read import archive_cache
from fieldguide.data.read.archive_cache import as_folder, forget_archives, known_archives
from fieldguide.data.read.content import copy_photo, read_bytes
from fieldguide.data.read.decode import UnreadableError
from fieldguide.data.read.member import PLAIN, Member, stands_for_photo
from fieldguide.errors import PhotosError

USE = "import sys\nfrom pathlib import Path\nfrom fieldguide.data.read.archive_cache import as_folder\n"
CONTENT = bytes(range(256)) * 8


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A cache without anything in it."""
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archive_cache, "_in_use", {})


def made_zip(path, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as made:
        for number in range(3):
            made.writestr(f"a/{number}.png", CONTENT + bytes([number]))
    return path


def made_tar(path, mode="w"):
    with tarfile.open(path, mode) as made:
        for number in range(3):
            entry = tarfile.TarInfo(f"a/{number}.png")
            entry.size = len(CONTENT)
            made.addfile(entry, io.BytesIO(CONTENT))
    return path


def flipped(path, place, size=1):
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes(255 - byte for byte in content[place : place + size])
    path.write_bytes(content)


def using(path):
    """A process that uses an archive until its standard input is closed."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"{USE}as_folder(Path(sys.argv[1]))\nprint('ready', flush=1)\nsys.stdin.read()", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_photo_that_is_damaged_in_a_zip_is_unreadable_and_the_others_are_as_ever(tmp_path, own, kind):
    path = made_zip(tmp_path / "x.zip", kind)
    with zipfile.ZipFile(path) as archive:
        place = archive.infolist()[1].header_offset
    flipped(path, place + 30 + len("a/1.png") + 20, 8)
    told = []
    folder = as_folder(path, told.append)
    if kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert told == [f"{path}: 3 photos, read in place; 0.0 MB"]
    else:
        assert "3 photos, unpacked into" in told[0] and told[0].endswith("damaged in it:\n  a/1.png")
    assert read_bytes(folder / "a/0.png") == CONTENT + b"\0" and read_bytes(folder / "a/2.png") == CONTENT + b"\2"
    with pytest.raises(UnreadableError, match=r"is damaged in its archive \("):
        read_bytes(folder / "a/1.png")


@pytest.mark.parametrize("made", [made_zip, lambda path: made_zip(path, zipfile.ZIP_STORED), made_tar])
def test_photos_of_a_zip_or_tar_are_read_where_they_lie(tmp_path, own, made):
    big = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
    path = made(tmp_path / "x")
    if made is made_tar:
        with tarfile.open(path, "a") as archive:
            entry = tarfile.TarInfo("b/big.png")
            entry.size = len(big)
            archive.addfile(entry, io.BytesIO(big))
    else:
        path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())  # such as an archive that unpacks itself
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("b/big.png", big)
    path = path.rename(tmp_path / ("x.tar" if made is made_tar else "x.zip"))
    folder = as_folder(path)
    assert read_bytes(folder / "b/big.png") == big
    assert read_bytes(folder / "a/2.png")[: len(CONTENT)] == CONTENT
    assert known_archives()[1] < 1_000  # of 3 MB
    copy_photo(folder / "b/big.png", tmp_path / "copy.png")
    assert (tmp_path / "copy.png").read_bytes() == big


def test_an_archive_that_changes_or_goes_while_it_is_used_costs_its_photos(tmp_path, own):
    path = made_zip(tmp_path / "x.zip")
    folder = as_folder(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnreadableError, match=r"cannot be read \(.*x\.zip has changed since its photos were listed\)"):
        read_bytes(folder / "a/0.png")
    path.unlink()
    with pytest.raises(UnreadableError, match=r"cannot be read \(.*x\.zip does not exist any more\)"):
        read_bytes(folder / "a/0.png")


def test_only_what_fieldguide_wrote_stands_for_a_photo(tmp_path, own):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    claims = Member(0, 100, 100, PLAIN, 0).stand_in()
    (tmp_path / "x.png").write_bytes(claims)
    assert read_bytes(tmp_path / "x.png") == claims  # a file of the user is what it is
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("x.png")
        entry.size = len(claims)
        archive.addfile(entry, io.BytesIO(claims))
    folder = as_folder(tmp_path / "x.tgz")
    assert read_bytes(folder / "x.png") == claims and not stands_for_photo(folder / "x.png")


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path, own):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", bytes(10_000_000))
        archive.filelist[0].file_size = 1_000
    with pytest.raises(UnreadableError, match=r"is damaged in its archive \(its checksum differs\)"):
        read_bytes(as_folder(path) / "a/0.png")


def test_a_tar_whose_rest_nobody_can_read_is_refused_with_what_was_read(tmp_path, own):
    path = made_tar(tmp_path / "x.tar")
    flipped(path, 512 + len(CONTENT), 512)  # the second photo's header
    with pytest.raises(PhotosError, match=r"x\.tar: is damaged .* after 1 photo, and nobody can tell what follows"):
        as_folder(path)
    path = made_tar(tmp_path / "y.tgz", "w:gz")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(PhotosError, match=r"y\.tgz: is damaged .*; get it again, or unpack it yourself"):
        as_folder(path)
    assert known_archives() == (0, 0)


def test_a_tar_without_end_and_names_that_come_twice_are_told(tmp_path, own):
    path, told = made_tar(tmp_path / "x.tar"), []
    path.write_bytes(path.read_bytes()[: 3 * (512 + len(CONTENT))])
    as_folder(path, told.append)
    assert "3 photos, read in place" in told[0] and "it has no end mark, so it may be cut off" in told[0]
    with zipfile.ZipFile(made_zip(tmp_path / "x.zip"), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/0.png", b"later")
    folder = as_folder(tmp_path / "x.zip", told.append)
    assert "3 photos" in told[1] and "1 name in it more than once, the last one counts" in told[1]
    assert read_bytes(folder / "a/0.png") == b"later"


def test_a_table_in_an_archive_is_named(tmp_path, own):
    with zipfile.ZipFile(made_zip(tmp_path / "x.zip"), "a") as archive:
        archive.writestr("set/labels.csv", "file,label")
        archive.writestr("__MACOSX/set/._labels.csv", "x")
    told = []
    as_folder(tmp_path / "x.zip", told.append)
    assert "not read: set/labels.csv; if it has the labels, take it out and give it first" in told[0]


def test_what_a_process_uses_is_kept_and_said(tmp_path, own):
    path = made_zip(tmp_path / "x.zip")
    child = using(path)
    assert known_archives()[0] == 1
    found = cache(clear=True)
    assert (found.archives, found.archives_in_use, found.archives_deleted) == (1, 1, 0)
    assert "kept the list of 1 archive that a process is using; clear again after it has ended" in found.sentences()
    child.communicate("")
    assert forget_archives() == (1, 0) and not list((tmp_path / "cache/archives").iterdir())


def test_an_archive_that_changed_replaces_what_was_unpacked_of_it_unless_that_is_used(tmp_path, own):
    path = made_zip(tmp_path / "x.zip")
    child = using(path)
    before = [place for place in Path(tmp_path / "cache/archives").iterdir() if place.is_dir()]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/9.png", CONTENT)
    now = as_folder(path)
    assert now not in before and before[0].is_dir()
    child.communicate("")
    as_folder(path)
    assert [place for place in now.parent.iterdir() if place.is_dir()] == [now]


def test_what_a_killed_process_left_is_no_archive_that_is_whole(tmp_path, own):
    path = made_zip(tmp_path / "x.zip")
    place = as_folder(path)
    half = place.with_name(f"{archive_cache.WRITING}{place.name}-1")
    place.rename(half)
    (half / "a/1.png").unlink()
    assert len(list(as_folder(path).glob("a/*"))) == 3  # also where somebody deleted what this process uses
    os.close(archive_cache._in_use.pop(place))
    assert forget_archives() == (2, 0) and not list(place.parent.iterdir())


def test_a_folder_that_was_deleted_while_others_use_it_is_unpacked_again(tmp_path, own):
    path = made_zip(tmp_path / "x.zip")
    child = using(path)
    shutil.rmtree(next(place for place in (tmp_path / "cache/archives").iterdir() if place.is_dir()))
    assert len(list(as_folder(path).glob("a/*"))) == 3
    child.communicate("")


def test_a_list_that_takes_too_much_of_the_disk_is_refused(tmp_path, own, monkeypatch):
    path = made_zip(tmp_path / "x.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 20_000}))
    with pytest.raises(PhotosError, match=r"x\.zip: takes more than half of the free disk"):
        as_folder(path)
    assert known_archives() == (0, 0)
