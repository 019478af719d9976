"""Other words for findings, remarks and the choice of a model change nothing but the words."""

import itertools
import shutil

import pytest
from markupsafe import escape

from fieldguide import check
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import cross_validation
from fieldguide.commands.trial import prepare as preparing
from fieldguide.data.look.findings import ACROSS_PARTS, TWO_LABELS, Finding, Kind, Remark, Topic
from fieldguide.report import chosen as choosing
from fieldguide.report.page import page
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_json
from tests.commands.by_the_report import train
from tests.data.scenes import encoded, save, scene, write
from tests.report.made_up import made_up_run

CHOICES = [([5], 0), ([5, 3], 0), ([5], 4)]


class Words:
    """Gives each sentence other words, and puts the first ones back."""

    def __init__(self):
        self.of, self.number = {}, itertools.count(10_000)

    def other(self, sentence):
        words = f"reworded{next(self.number)}"
        self.of[words] = sentence
        return words

    def restored(self, text, escaped=str):
        for words, sentence in self.of.items():
            text = text.replace(words, str(escaped(sentence)))
        return text


@pytest.fixture
def reword(monkeypatch):
    """reword() gives all sentences that are made from then on other words."""

    def patched(kind, field, words):
        made = kind.__init__

        def init(self, *arguments, **named):
            made(self, *arguments, **named)
            object.__setattr__(self, field, words.other(getattr(self, field)))

        monkeypatch.setattr(kind, "__init__", init)

    def begin():
        words, choice = Words(), choosing.words
        patched(Finding, "message", words)
        patched(Remark, "sentence", words)
        monkeypatch.setattr(choosing, "words", lambda chose: words.other(choice(chose)))
        return words

    return begin


@pytest.fixture
def troubled(tmp_path):
    """Photos with every trouble that a training reports and does not refuse."""
    numbers = itertools.count()
    for part, count in (("train", 8), ("val", 3), ("test", 3)):
        for name in ("ash", "oak", "elm"):
            for _ in range(count):
                place = next(numbers)
                save(scene(place), tmp_path / f"photos/{part}/{name}/{place}.png")
    root = tmp_path / "photos"
    shutil.copy(next((root / "val/ash").iterdir()), root / "test/ash/copy.png")
    first = next((root / "train/ash").iterdir())
    shutil.copy(first, root / "train/oak/copy.png")
    write(encoded(scene(next(numbers)))[:200], root / "train/oak/torn.jpg")
    write(b"", root / "test/elm/empty.jpg")
    save(scene(next(numbers)), root / "test/yew/unknown.png")
    save(scene(next(numbers)), root / "beside/yew/0.png")
    return root


def test_of_a_check(troubled, tmp_path, reword):
    first = check(troubled, html_file=tmp_path / "first.html")
    words = reword()
    second = check(troubled, html_file=tmp_path / "second.html")
    assert first.exit_code == second.exit_code == 1 and len(first.findings) == 7
    messages = [finding.message for finding in second.findings]
    assert all(message in words.of for message in messages)
    assert [finding.plain() for finding in first.findings] == [
        {**finding.plain(), "message": words.restored(words.restored(finding.message))} for finding in second.findings
    ]
    text = (tmp_path / "second.html").read_text()
    assert "reworded" in text
    assert words.restored(words.restored(text, escape), escape) == (tmp_path / "first.html").read_text()


def test_of_the_layout_a_class_without_training_photos_is_one_finding(troubled, reword):
    reword()
    kinds = [finding.kind for finding in check(troubled).findings]
    assert kinds.count(Kind.CLASS_NOT_IN_TRAIN) == 1 and kinds.count(Kind.LAYOUT) == 1  # beside/ is not used


def test_of_what_comes_before_a_training(troubled, reword, small):
    recipe = read_resolved(troubled, (*small, "data.unreadable=exclude"))
    first = preparing.prepare(troubled, recipe, Screen(quiet=True))
    words = reword()
    second = preparing.prepare(troubled, recipe, Screen(quiet=True))
    assert second.split == first.split and second.groups == first.groups and second.remarks == first.remarks
    topics = {remark.topic for remark in second.remarks}
    assert topics >= {Topic.TWO_LABELS, Topic.ACROSS_PARTS, Topic.UNREADABLE, Topic.CLASS_NOT_IN_TRAIN, Topic.LAYOUT}
    assert all(sentence in words.of for sentence in second.sentences)
    kinds = {finding["kind"] for finding in second.check["findings"]}
    assert kinds & TWO_LABELS and kinds & ACROSS_PARTS


def test_of_folds_a_class_with_one_photo_is_told_once(tmp_path, make_photos, reword, small):
    root = make_photos(tmp_path / "photos", {"ash": 6, "oak": 6, "yew": 1})
    recipe = read_resolved(root, (*small, "split.folds=3"))
    reword()
    prepared = preparing.prepare(root, recipe, Screen(quiet=True))
    told = []

    def train_fold(prepared, run):
        told.extend(prepared.remarks)
        raise EOFError

    with pytest.raises(EOFError):
        run = RunFolder(tmp_path / "run")
        cross_validation.cross_validate("x", recipe, prepared, run, Screen(quiet=True), train_fold, device="cpu")
    assert [remark.names for remark in told if remark.topic is Topic.SINGLE] == [("yew",)]


@pytest.mark.parametrize(("epochs", "tried"), CHOICES)
def test_of_a_page_the_kept_model(tmp_path, reword, epochs, tried):
    def written(name):
        run = made_up_run(tmp_path / name / "run")
        result = run.read_result()
        chose = choosing.chosen(epochs, 6, "validation_loss", "accuracy", tried)
        run.write_result(result | {"validation": result["validation"] | {"chose": chose}})
        return page(run)

    first = written("first")
    words = reword()
    second = written("second")
    model = "the mean of epochs 5, 3" if len(epochs) > 1 else "from epoch 5"
    assert f"the model is {model}" in first and f"the model is {model}" in second
    assert "reworded" in second and words.restored(second, escape) == first


def test_of_a_whole_training(trained, tmp_path, reword, small):
    words = reword()
    run = train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    first, second = trained[1].result, run.result
    assert run.exit_code == trained[1].exit_code == 0
    timed = {"seconds", "images_per_second", "waited_for_data", "checkpoints", "validation", "calibration", "remarks"}
    assert {key: second[key] for key in second if key not in timed} == {
        key: first[key] for key in first if key not in timed
    }
    chose = second["validation"]["chose"]
    restored = second["validation"] | {"chose": chose | {"text": words.restored(chose["text"])}}
    assert chose["text"] in words.of and restored == first["validation"]
    assert second["calibration"] == first["calibration"]
    assert [words.restored(remark) for remark in second["remarks"]] == first["remarks"]
    found = read_json(run.path / "check.json")["findings"]
    before = read_json(trained[1].path / "check.json")["findings"]
    assert found and [one | {"message": words.restored(one["message"])} for one in found] == before


def read_resolved(root, settings):
    _, recipe, _ = preparing.demand_request(root, "resnet34-adam", settings, None, "cpu", [])
    return recipe
