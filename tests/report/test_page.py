"""A run's page, made from its files alone."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fieldguide.errors import UsageError
from fieldguide.report.chosen import chosen
from fieldguide.report.page import page, percent, points
from fieldguide.report.write import report
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_json, write_json
from tests.report.made_up import made_up_run, predictions, write_result

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }} $x^2$ & co")
SECTIONS = ["answer", "curves", "classes", "confusion", "mistakes", "labels", "calibration", "data", "recipe"]


class Tags(HTMLParser):
    """Counts what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_up_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def text(run: RunFolder) -> str:
    return page(run)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))


def test_the_sections_stand_in_the_order_in_which_they_are_read(text: str):
    assert [entry["id"] for entry in Tags(text).named("section")] == SECTIONS


def test_the_answer_says_accuracy_interval_training_photos_and_that_test_was_not_touched(run: RunFolder, text: str):
    text = words(text)
    found = run.read_result()["validation"]
    assert f"for {100 * found['accuracy']:.1f} % (95 % interval {100 * found['accuracy_low']:.1f} to" in text
    assert "It was trained on 12 photos. The test set was never evaluated" in text


def test_a_validation_figure_says_that_it_chose_the_epoch_in_every_section_that_has_one(text: str):
    sections = re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL)
    assert [name for name, _ in sections] == SECTIONS
    for name, section in sections[:7]:
        has_no_figure = name == "labels" and "None found among the validation photos" in section
        assert has_no_figure or "chose the epoch" in section or "also chose epoch 5 of 6" in section


def test_the_test_figure_leads_and_the_page_says_how_often_it_was_looked_at(tmp_path: Path):
    run = made_up_run(tmp_path / "run")
    calibration = {"log_loss_before": 2.0, "log_loss_after": 1.0, "ece_before": 0.25, "ece_after": 0.125}
    test = run.read_result()["validation"] | {"accuracy": 0.5, "images": 40, "calibration": calibration}
    write_result(run, predictions(("ant", "bee", "crab")), test=test, test_evaluations=3)
    text = words(page(run))
    assert "On 40 test photos" in text and "for 50.0 %" in text
    assert "The test set was evaluated 3 times for this run" in text
    write_result(run, predictions(("ant", "bee", "crab")), test_evaluations=1)
    later = words(page(run))
    assert "evaluated once for this run, before it was trained longer, or in an ensemble" in later
    assert "never evaluated" not in later and "so there is no test figure here" in later
    assert "log loss 2.000 before and 1.000 after; ECE 25.0 % before and 12.5 % after" in text


@pytest.mark.slow
def test_photos_that_could_not_be_read_are_told_beside_the_figure_that_they_are_not_in(tmp_path: Path):
    run, found = made_up_run(tmp_path / "run"), predictions(("ant", "bee", "crab"))
    assert "unreadable" not in page(run)
    validation = run.read_result()["validation"]
    failed = [{"file": f"test/{number}.jpg", "reason": "is cut off"} for number in range(30)]
    write_result(run, found, test=validation | {"failed": failed}, test_evaluations=1)
    answer = words(page(run)).split("Validation figures in this report")[0]
    assert "30 test photos unreadable; not counted. It was trained on 12 photos." in answer
    assert "validation photo unreadable" not in words(page(run))
    write_result(run, found, validation=validation | {"failed": failed[:1]}, test=validation, test_evaluations=1)
    text = words(page(run))
    assert "1 validation photo unreadable; not counted." in text
    assert "test photos unreadable" not in text


def test_hostile_names_of_classes_and_files_are_text(tmp_path: Path):
    run = made_up_run(tmp_path / "<u>run", HOSTILE, name="<svg onload=alert(3)>{}.jpg")
    write_json(run.check, {"used": HOSTILE[0], "findings": [finding(HOSTILE[1])], "classes": [], "groups": []})
    history = [json.loads(line) | {"stage": HOSTILE[0]} for line in run.history.read_text().splitlines()]
    run.history.write_text("".join(json.dumps(epoch) + "\n" for epoch in history))
    tags = Tags(page(run))
    assert len(tags.named("script")) == 1 and not tags.named("u")
    pictures = tags.named("img")
    assert pictures and all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in pictures)
    assert not [1 for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert "49 $x^2$" not in page(run)


def finding(message: str) -> dict[str, object]:
    return {"kind": "bomb", "severity": "harm", "part": "train", "classes": [], "files": [], "message": message}


def test_nothing_points_outside_of_the_page(text: str):
    for tag, attributes in Tags(text).found:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    policy = next(a["content"] for a in Tags(text).named("meta") if "content" in a and "default-src" in a["content"])
    assert policy.startswith("default-src 'none'") and "unsafe-inline'; img-src data:; script-src 'sha256-" in policy


@pytest.mark.slow
def test_of_a_soup_the_page_says_that_a_mean_of_epochs_is_kept_and_the_ring_is_the_best_epochs(
    text: str, tmp_path: Path
):
    assert "6 epochs; the model is from epoch 5." in text and '<span class="best">best epoch</span>' in text
    run = made_up_run(tmp_path / "run")
    result = run.read_result()
    validation = result["validation"] | {"chose": chosen([5, 3], 6, "validation_loss", "accuracy")}
    for is_kept in (True, False):  # trained longer, a soup of before is the model though the last attempt was none
        run.write_result(result | {"validation": validation, "soup": {"epochs": [5, 3], "is_kept": is_kept}})
        assert "6 epochs; the model is the mean of epochs 5, 3; of these, 5 is the best." in page(run)
        assert "the model is from epoch" not in page(run)


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ("one_cell", "the last feature map of this backbone is 1 x 1 at this image size."),
        ("tokens", "the last features of this backbone are tokens"),
        ("this backbone has no spatial features, so there are no class-activation maps", "are tokens"),  # of before
    ],
)
def test_where_there_are_no_maps_the_page_says_why(tmp_path: Path, text: str, kept: str, why: str):
    run = made_up_run(tmp_path / "run")
    write_json(run.gallery_index, read_json(run.gallery_index) | {"no_maps": kept})
    without = words(page(run))
    assert without.count("There are no activation maps: ") == 1 and why in without
    assert "evidence for ant" not in without
    assert "There are no activation maps" not in text and "evidence for ant" in text


def test_what_check_found_stands_in_it(tmp_path: Path):
    run = made_up_run(tmp_path / "run")
    write_json(run.check, {"used": "10 photos to train on", "findings": [finding("boom.png is a bomb")]})
    assert "10 photos to train on" in page(run) and "boom.png is a bomb" in page(run)


def test_a_run_that_kept_no_predictions_has_a_page_that_says_so(tmp_path: Path):
    text = page(made_up_run(tmp_path / "run", kept=False))
    assert "kept no predictions" in text and "<canvas" not in text
    assert [entry["id"] for entry in Tags(text).named("section")] == SECTIONS


def test_a_run_without_a_mistake_and_a_run_of_mistakes_alone_have_pages(tmp_path: Path):
    text = page(made_up_run(tmp_path / "right", edge=100))
    assert "There are no mistakes on the validation photos." in text and "no temperature is best" in text
    assert "for 0.0 %" in words(page(made_up_run(tmp_path / "wrong", edge=-100)))


def test_two_of_the_same_run_are_the_same_page(run: RunFolder, text: str):
    assert page(run) == text


def test_a_hundred_classes_stay_small(tmp_path: Path):
    path = report(made_up_run(tmp_path / "run", tuple(f"class {i}" for i in range(100)), per_class=20).path)
    assert path.stat().st_size < 5_000_000


@pytest.mark.slow
def test_it_is_made_without_loading_torch(run: RunFolder):
    code = (
        "import sys; from fieldguide.commands.report import report; "
        f"report({str(run.path)!r}); assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert run.report.exists()


def test_an_unfinished_run_and_a_gallery_that_names_other_files_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no such run"):
        report(tmp_path / "none")
    run = made_up_run(tmp_path / "run")
    index = json.loads(run.gallery_index.read_text())
    next(iter(index["photos"].values()))["thumbnail"] = "../recipe.yaml"
    run.gallery_index.write_text(json.dumps(index))
    with pytest.raises(UsageError, match="damaged"):
        report(run.path)


@pytest.mark.parametrize(
    ("share", "decimals", "told"),
    [
        (249 / 250, 0, "99.6"),
        (2999 / 3000, 1, "99.97"),
        (1 / 3000, 1, "0.03"),
        (0.001, 0, "0.1"),
        (1 - 4e-6, 1, "99.9996"),
        (1 - 1e-9, 0, "> 99.9999"),
        (1e-9, 1, "< 0.0001"),
        (1.0, 0, "100"),
        (1 + 1e-12, 1, "100.0"),
        (0.0, 1, "0.0"),
        (0.994, 0, "99"),
        (0.5, 1, "50.0"),
        (None, 1, "–"),
    ],
)
def test_only_all_is_told_as_100_percent_and_only_nothing_as_0(share: float | None, decimals: int, told: str):
    assert points(share, decimals) == told
    assert percent(share, decimals) == (told if share is None else f"{told} %")
