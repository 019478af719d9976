"""Hundreds of odd files go through check, train and predict, and each is accounted for once in each."""

import resource
from collections import Counter

import pandas
import pytest

from fieldguide import check, predict
from fieldguide.data.read.decode import UnreadableError, read_photo
from fieldguide.data.split.partition import read_split
from tests.commands.by_the_report import train
from tests.conftest import write_photo
from tests.odd_photos import write_odd_photos

MOST_MEMORY_KIB = 1_000_000  # above what the process had taken before these tests
READING = {"dtype": str, "keep_default_na": False, "encoding": "utf-8"}


@pytest.fixture(scope="module", autouse=True)
def memory_before_kib():
    """The most that the process had taken when these tests began; other tests have run in it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """(photos, names): a class of odd files beside one of good ones."""
    root = tmp_path_factory.mktemp("odd")
    names = write_odd_photos(root / "photos" / "odd")
    for number in range(12):
        write_photo(root / "photos" / "good" / f"{number}.png", 3, number)
    return root / "photos", names


@pytest.fixture(scope="module")
def run(odd, small, tmp_path_factory):
    settings = (*small, "data.unreadable=exclude", "training.phases.0.max_epochs=1", "training.rounds=0")
    folder = tmp_path_factory.mktemp("odd-run") / "run"
    return train(odd[0], output=folder, overrides=(*settings, "training.max_epochs=1"), quiet=True)


def test_there_are_at_least_300_and_a_part_of_each_kind_can_be_read(odd):
    photos, names = odd
    assert len(names) == len(set(names)) >= 300
    kinds = Counter()
    for name in names:
        try:
            kinds[read_photo(photos / "odd" / name.replace("\\xe9", "\udce9")).mode] += 1
        except UnreadableError:
            kinds["refused"] += 1
    assert kinds.keys() == {"RGB", "refused"}
    assert kinds["RGB"] > 100 and kinds["refused"] > 60


def test_check_accounts_for_every_file(odd, tmp_path):
    photos, names = odd
    report = check(photos, json_file=tmp_path / "c.json", html_file=tmp_path / "c.html")
    refused = ("unreadable", "truncated", "empty_file", "not_an_image", "bomb")
    failed = [file for finding in report.findings if finding.kind in refused for file in finding.files]
    assert len(failed) == len(set(failed))
    readable = sum(entry["train"] for entry in report.classes)
    assert readable + len(failed) == len(names) + 12
    assert {name.removeprefix("odd/") for name in failed} < set(names)
    formulas = next(finding for finding in report.findings if finding.kind == "formula_name")
    assert {"odd/=1+1.png", "odd/+x.png", "odd/@sum.png", "odd/-dash.png"} <= set(formulas.files)
    assert "<script>alert" not in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_train_accounts_for_every_file_in_its_split(odd, run):
    names = odd[1]
    table = pandas.read_csv(run.path / "split.csv", **READING)
    assert sorted(table["file"]) == sorted([f"odd/{name}" for name in names] + [f"good/{i}.png" for i in range(12)])
    excluded = table[table["part"] == "excluded"]
    assert all(excluded["reason"]) and not any(table[table["part"] != "excluded"]["reason"])
    assert sum(run.result["split"][part] for part in ("train", "val", "excluded")) == len(names) + 12
    assert run.result["split"]["excluded"] == len(excluded) > 60
    assert [row.file for row in read_split(run.path / "split.csv").rows] == list(table["file"])
    assert not run.result["validation"]["failed"]


def test_the_report_of_such_photos_shows_names_as_text_and_none_of_their_metadata(run):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and "onload=" not in page and "alert(1)" not in page


def test_every_csv_of_the_run_reads_back(run, odd):
    known = {f"odd/{name}" for name in odd[1]} | {f"good/{number}.png" for number in range(12)}
    errors = pandas.read_csv(run.path / "label_errors.csv", **READING)
    assert set(errors["file"]) <= known and list(errors.columns)[-1] == "correct_class"


def test_predict_accounts_for_every_file_with_the_reason_that_train_gives(odd, run, tmp_path):
    photos, names = odd
    done = predict(run.path, [photos / "odd"], tmp_path / "p.csv", quiet=True)
    table = pandas.read_csv(tmp_path / "p.csv", **READING)
    assert sorted(table["image"]) == names and done.images == len(names)
    failed = table[table["label"] == ""]
    assert list(failed["image"]) == [image for image, _ in done.failed]
    assert list(failed["status"]) == [f"failed: {reason}" for _, reason in done.failed]
    assert set(table[table["label"] != ""]["status"]) == {"ok"}
    reasons = {row.file: row.reason for row in read_split(run.path / "split.csv").rows if row.part == "excluded"}
    assert {f"odd/{name}": reason for name, reason in done.failed} == reasons
    assert done.exit_code == 3


def test_memory_stayed_below_its_bound(memory_before_kib, run):
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < memory_before_kib + MOST_MEMORY_KIB
