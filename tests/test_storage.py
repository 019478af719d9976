"""Files appear whole or not at all; names can be printed by any reader."""

import hashlib
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from fieldguide import storage
from fieldguide.errors import UsageError
from fieldguide.storage import remove_half_written


def test_a_file_appears_whole_with_the_rights_of_any_other_file(tmp_path):
    target = tmp_path / "a.txt"
    before = os.umask(0o027)
    try:
        storage.write_text(target, "ä\n€")
    finally:
        os.umask(before)
    assert target.read_bytes() == "ä\n€".encode()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), storage.replacing(target) as file:
        file.write(b"half of the ne")
        raise RuntimeError("the power went")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]
    with storage.replacing(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


def test_a_folder_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        storage.write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == ["a"]


def test_json_that_not_every_reader_takes_is_never_written(tmp_path):
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []
    storage.write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert storage.read_json(tmp_path / "a.json") == {"ä": [1, None]}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5_000, b'{"a": 1} x'], ids=lambda content: content[:4]
)
def test_damaged_json_is_told_with_the_files_name(tmp_path, content):
    file = tmp_path / "model.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.json: cannot be read as JSON"):
        storage.read_json(file)


def test_missing_json_is_told_with_the_files_name(tmp_path):
    with pytest.raises(UsageError, match=r"model\.json: there is no such file"):
        storage.read_json(tmp_path / "model.json")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        storage.read_json(tmp_path)


def test_checksums_are_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    expected = hashlib.sha256(b"abc" * 100_000).hexdigest()
    assert storage.file_digest(tmp_path / "a") == storage.digest(b"abc" * 100_000) == expected


def test_names_that_are_no_utf_8_become_printable():
    assert storage.printable(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"
    for name in ("käse.jpg", "🐱.jpg", "a\nb", "-x"):
        assert storage.printable(name) == name


def test_an_output_folder_that_can_be_made_is_no_problem_and_nothing_is_left_behind(tmp_path):
    assert storage.problem_with_output_folder(tmp_path / "a" / "b" / "c") is None
    assert os.listdir(tmp_path) == []
    (tmp_path / "empty").mkdir()
    assert storage.problem_with_output_folder(tmp_path / "empty") is None
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "exists already"),
        ("full", "exists already"),
        ("dangling", "exists already"),
        ("file/below", "cannot be written (Not a directory)"),
        ("x" * 300, "cannot be written (File name too long)"),
        ("x" * 300 + "/run", "cannot be written (File name too long)"),
    ],
)
def test_an_output_folder_that_cannot_be_made_is_told_with_the_reason(tmp_path, name, words):
    (tmp_path / "file").touch()
    (tmp_path / "full" / "inside").mkdir(parents=True)
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(os.listdir(tmp_path))
    problem = storage.problem_with_output_folder(tmp_path / name)
    assert problem is not None and problem.startswith(str(tmp_path / name)) and words in problem
    assert sorted(os.listdir(tmp_path)) == before


def test_an_output_folder_without_permission_is_told(tmp_path, monkeypatch):
    def refuse(*args, **keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.Path, "mkdir", refuse)
    assert "cannot be written (Permission denied)" in storage.problem_with_output_folder(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "is a folder; give the name of a file"),
        ("pipe", "is a named pipe, which may have no reader; give the name of a file"),
        ("none/a.json", "there is no folder "),
        ("file/a.json", "there is no folder "),
        ("x" * 300, "cannot be written (File name too long)"),
        ("x" * 300 + "/a.json", "cannot be written (File name too long)"),
    ],
)
def test_an_output_file_that_cannot_be_written_is_told_with_the_reason(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    problem = storage.problem_with_output_file(tmp_path / name)
    assert problem is not None and problem.startswith(words)
    assert storage.problem_with_output_file(tmp_path / "new.json") is None
    assert storage.problem_with_output_file(tmp_path / "file") is None
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]


def test_an_output_file_where_nothing_may_be_written_is_told(tmp_path, monkeypatch):
    def refuse(*args, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    assert storage.problem_with_output_file(tmp_path / "a.json") == "cannot be written (Read-only file system)"


def test_an_empty_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(*args, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    assert "cannot be written (Read-only file system)" in storage.problem_with_output_folder(tmp_path)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".writing-abc").write_text("half")
    (tmp_path / "whole").write_text("whole")
    remove_half_written(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "whole"]


def test_every_name_reads_back_from_a_line_of_csv():
    for name in ("a,b", 'say "so"', "two\nlines", "old\rmac", "both\r\n", " edge ", "'quoted'", "", "=1+1", "🌿", "\t"):
        frame = pandas.read_csv(
            io.StringIO("n,m\n" + storage.csv_line((name, "x")), newline=""), dtype=str, keep_default_na=False
        )
        assert frame["n"].tolist() == [name] and frame["m"].tolist() == ["x"]


def test_a_name_that_a_spreadsheet_takes_for_a_formula_gets_a_mark():
    assert [storage.no_formula(name) for name in ("=1", "+1", "-1", "@a", "\t=1", "\r=1", "a=1", "")] == [
        "'=1", "'+1", "'-1", "'@a", "'\t=1", "'\r=1", "a=1", "",
    ]  # fmt: skip


def test_bytes_that_are_no_utf_8_can_be_written_in_text_and_json(tmp_path):
    storage.write_text(tmp_path / "a.txt", "caf\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\xe9\n"
    storage.write_json(tmp_path / "a.json", {"caf\udce9": ["\ud800", "\\"]})
    assert storage.read_json(tmp_path / "a.json") == {"caf\\xe9": ["\\xed\\xa0\\x80", "\\"]}


def test_a_json_of_gigabytes_is_not_read(tmp_path):
    (tmp_path / "a.json").touch()
    os.truncate(tmp_path / "a.json", 2**33)
    with pytest.raises(UsageError, match=r"a\.json: .*8,589,934,592 bytes; at most 536,870,912 are read"):
        storage.read_json(tmp_path / "a.json")


def test_the_cache_lies_where_the_user_says_a_folder_a_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path))
    assert storage.cache_folder("photos") == tmp_path / "photos"
    monkeypatch.delenv("FIELDGUIDE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert storage.cache_folder("engines").name == "engines" and "fieldguide" in str(storage.cache_folder("engines"))
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # as where it is not installed
    assert storage.cache_folder("engines").parts[-2:] == ("fieldguide", "engines")


def test_an_output_follows_links_and_leaves_them(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "there.csv").write_text("old")
    for name, target in (("one.csv", "folder/there.csv"), ("two.csv", "folder/new.csv"), ("three.csv", "two.csv")):
        (tmp_path / name).symlink_to(target)
        assert storage.problem_with_output_file(tmp_path / name) is None
        storage.write_text(tmp_path / name, name)
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == name
    assert (tmp_path / "folder/there.csv").read_text() == "one.csv" and sorted(os.listdir(tmp_path / "folder")) == [
        "new.csv", "there.csv"
    ]  # fmt: skip
    (tmp_path / "lost.csv").symlink_to("nowhere/x.csv")
    assert "there is no folder" in storage.problem_with_output_file(tmp_path / "lost.csv")


def test_nothing_below_dev_is_replaced(tmp_path):
    before = os.lstat("/dev/null"), os.lstat("/dev/stdout")
    assert storage.problem_with_output_file(Path("/dev/null")) is None
    storage.write_text(Path("/dev/null"), "gone")
    (tmp_path / "null.csv").symlink_to("/dev/null")
    storage.write_text(tmp_path / "null.csv", "gone")
    code = "import pathlib; from fieldguide import storage; storage.write_text(pathlib.Path('/dev/stdout'), 'told')"
    with (tmp_path / "file").open("wb") as file:
        assert subprocess.run([sys.executable, "-c", code], stdout=file).returncode == 0
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert piped.stdout == b"told" and (tmp_path / "file").read_bytes() == b"told"
    after = os.lstat("/dev/null"), os.lstat("/dev/stdout")
    assert [(one.st_ino, one.st_mode) for one in before] == [(one.st_ino, one.st_mode) for one in after]


def test_a_pipe_gets_what_is_written_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        storage.write_text(tmp_path / "pipe", "through")
        assert reader.stdout.read() == b"through"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
