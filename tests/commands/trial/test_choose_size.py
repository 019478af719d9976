"""The test size and crop that are chosen on validation: when another is taken, and what is said of it."""

import json
import signal

import numpy as np
import pytest

from fieldguide import UsageError, assemble, evaluate, resume
from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import choose_size as command
from fieldguide.commands.trial import judge_run, size_trials
from fieldguide.commands.trial.choose_size import shorter_side_px, sizes_to_try
from fieldguide.commands.trial.size_trials import Tries, choose, is_less
from fieldguide.data.split.partition import Row, read_split
from fieldguide.errors import Interrupted
from fieldguide.recipe.load import read_draft, read_recipe
from fieldguide.run_folder import RunFolder
from tests.commands.by_the_report import train
from tests.torture.runner import differences

AUTO = ("data.test_size_px=auto", "data.test_crop_share=auto")
START = (128, 0.875)
FILES = [f"{number}.png" for number in range(50)]


class MadeUp(Tries):
    """Tries whose mean losses are given; every setting but the start's also has noise of its own."""

    def __init__(self, means, noise=0.01, most=100):
        super().__init__(None, [], {})
        self.means, self.noise, self.most = means, noise, most

    def try_out(self, setting):
        if len(self.losses) >= self.most:
            self.left_out.append(setting)
            return False
        own = np.random.default_rng([setting[0], int(1000 * setting[1])]).normal(0, self.noise, len(FILES))
        common = np.random.default_rng(1).exponential(1, len(FILES))
        self.losses[setting] = dict(zip(FILES, common + self.means.get(setting, 1.0) + own - own.mean(), strict=True))
        return True


@pytest.fixture(scope="module")
def chosen(trained, tmp_path_factory, small):
    """As the run of `trained`, with size and crop chosen; whatever is better in the mean is taken."""
    patch = pytest.MonkeyPatch()
    patch.setattr(size_trials, "is_less", lambda one, than: bool(one.mean() < than.mean()))
    run = train(trained[0], output=tmp_path_factory.mktemp("chosen") / "run", overrides=[*small, *AUTO], quiet=True)
    patch.undo()
    return run


def resolved(*overrides):
    fields = ["data.image_size_px=128", "data.crop_share=0.875", *AUTO, *overrides]
    return assemble.resolved(read_recipe("resnet34-adam", fields))


def test_the_size_is_chosen_first_and_the_crop_at_that_size():
    means = {START: 1.0, (144, 0.875): 0.8, (160, 0.875): 0.6, (192, 0.875): 0.9, (160, 1.0): 0.5, (160, 0.95): 0.7}
    found = choose(MadeUp(means), START, [144, 160, 192], [0.875, 0.95, 1.0])
    assert found.setting == (160, 1.0) and found.taken and found.photos == len(FILES)
    assert set(found.tried) == set(means) and next(iter(found.tried)) == START
    assert found.sentence.startswith("test size 160 px and crop 1 chosen on validation among 6: loss ")
    assert found.sentence.endswith("so the validation figure is slightly optimistic")
    assert found.tried[START] - found.tried[(160, 1.0)] == pytest.approx(0.5)


def test_what_is_better_within_noise_alone_is_not_taken():
    found = choose(MadeUp({START: 1.0, (160, 0.875): 0.999}, noise=0.5), START, [160], [])
    assert found.setting == START and not found.taken
    assert "none among 2 is better on validation beyond noise (loss " in found.sentence
    assert "160 px and crop 0.875" in found.sentence
    best = choose(MadeUp({START: 0.5}), START, [160], [])
    assert (
        best.setting == START
        and "test size stays 128 px and crop 0.875: the best on validation among 2" in best.sentence
    )


def test_noise_is_that_of_the_paired_differences():
    spread = np.random.default_rng(0).exponential(10, 100)
    assert is_less(spread - 0.01, spread) and not is_less(spread, spread)
    noise = np.random.default_rng(1).normal(0, 1, 100)
    noise -= noise.mean()
    error = noise.std(ddof=1) / 10
    assert is_less(spread + noise - 1.1 * error, spread) and not is_less(spread + noise - 0.9 * error, spread)
    assert not is_less(spread[:1] - 5, spread[:1])


def test_where_time_is_up_what_was_tried_counts_and_the_rest_is_told():
    found = choose(MadeUp({START: 1.0, (144, 0.875): 0.8, (160, 0.875): 0.6}, most=2), START, [144, 160], [1.0])
    assert found.setting == (144, 0.875) and len(found.tried) == 2
    assert found.sentence.endswith("no time for 2 others")
    nothing = choose(MadeUp({}, most=0), START, [144, 160], [1.0])
    assert nothing.setting == START and not nothing.tried and "no time to try another" in nothing.sentence


def test_the_time_is_held_against_what_the_last_try_took(trained):
    photos, run = trained
    rows = read_split(RunFolder(run.path).split).part("val")
    paths, now = {row.file: photos / row.file for row in rows}, [0.0]

    def advance(count):
        now[0] += count * 1.0  # a photo takes a second: 12 s for 32 px, so 27 s for 48 px

    tries = Tries(run.load("cpu"), rows, paths, 60.0, advance, clock=lambda: now[0])
    assert tries.try_out((32, 0.875)) and tries.try_out((40, 0.875)) and now[0] == 24
    assert not tries.try_out((160, 0.875)) and tries.left_out == [(160, 0.875)] and now[0] == 24
    assert tries.try_out((32, 1.0)) and not tries.failed
    assert not tries.try_out((40, 1.0)) and now[0] == 36  # it would fit, but not the judging by it


def test_sizes_are_larger_multiples_as_far_as_the_photos_go():
    assert sizes_to_try(resolved(), 128, 300, 3) == ([144, 160, 192], "")
    assert sizes_to_try(resolved("data.image_size_px=224"), 224, 300, 3)[0] == [256, 288, 336]
    assert sizes_to_try(resolved(), 128, 80, 3)[0] == [144, 160]
    none, remark = sizes_to_try(resolved(), 128, 60, 3)
    assert none == [] and "the photos are too small for a larger size (median shorter side 60 px)" in remark
    assert sizes_to_try(resolved("data.test_size_px=null"), 128, 300, 3) == ([], "")
    assert sizes_to_try(resolved("data.crop_share=0.02"), 128, 300, 3)[0] == [144, 160]


def test_a_network_of_one_size_keeps_it_with_words():
    recipe = resolved("model.backbone=levit_128s", "rules={}", "data.image_size_px=224")
    sizes, remark = sizes_to_try(recipe, 224, 500, 3)
    assert sizes == [] and remark == "; levit_128s only takes 224 px"
    assert choose(MadeUp({}), (224, 0.875), [], []).sentence == "test size stays 224 px and crop 0.875"


def test_a_test_size_that_the_network_does_not_take_is_refused_before_the_training(photos, tmp_path, small):
    settings = [*small, "model.backbone=levit_128s", "data.image_size_px=224", "data.test_size_px=256"]
    with pytest.raises(UsageError, match=r"data\.test_size_px: levit_128s does not take 256 x 256 images"):
        train(photos, output=tmp_path / "run", overrides=settings, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "data.test_size_px=large",
            "should be auto, null or a whole number from 8 to 2048, not 'large'",
        ),
        ("data.test_size_px=4", "not 4"),
        ("data.test_size_px=130.5", "not 130.5"),
        ("data.test_size_px=true", "cannot be true or false"),
        ("data.test_size_px=[1]", "not [1]"),
        (
            "data.test_crop_share=1.1",
            "should be auto, null or a number above 0 and at most 1, not 1.1",
        ),
        (
            "data.test_crop_share=0.01",
            "0.01 with data.image_size_px 224 resizes the shorter side",
        ),
        ("data.test_flips=both", "data.test_flips: input should be 'none' or 'horizontal', not 'both'"),
    ],
)
def test_a_wrong_test_time_is_told_once_and_in_words(setting, words):
    (problem,) = read_draft("resnet34-adam", [setting]).problems
    assert words in problem and problem.startswith(setting.partition("=")[0])


def test_a_whole_share_is_a_share():
    assert read_recipe("resnet34-adam", ["data.test_crop_share=1"]).data.test_crop_share == 1.0


def test_the_median_shorter_side_is_read_from_headers(make_photos, tmp_path):
    make_photos(tmp_path, {"a": 3}, size=(90, 60))
    make_photos(tmp_path, {"b": 2}, size=(20, 70))
    (tmp_path / "a/x.png").write_bytes(b"no photo")
    rows = [Row(path.relative_to(tmp_path).as_posix(), "a", "val", "") for path in sorted(tmp_path.rglob("*.png"))]
    assert len(rows) == 6 and shorter_side_px(rows, {row.file: tmp_path / row.file for row in rows}, resolved()) == 60


@pytest.mark.slow
def test_a_size_that_is_a_number_stands_in_the_bundle_and_is_judged(trained, chosen, tmp_path, small):
    settings = [*small, "data.test_size_px=48", "data.test_crop_share=0.95"]
    run = train(trained[0], output=tmp_path / "run", overrides=settings, quiet=True)
    made = run.load("cpu")
    assert (made.preprocessing.image_size_px, made.preprocessing.resize_px) == (48, round(48 / 0.95))
    description = json.loads((run.path / "bundle/model.json").read_text())
    before = json.loads((trained[1].path / "bundle/model.json").read_text())
    assert description["weights_sha256"] == before["weights_sha256"] and description["input"]["shape"][2:] == [48, 48]
    assert run.result["validation"]["loss"] != trained[1].result["validation"]["loss"]
    judged = evaluate(run.path, trained[0], part="val", quiet=True)
    assert judged.figures["loss"] == pytest.approx(run.result["validation"]["loss"], abs=1e-6)
    assert run.result["test_time"]["tried"] == [] and run.result["validation"]["chose"]["test_settings"] == 0
    assert trained[1].result["test_time"] == {
        "image_size_px": 32, "crop_share": 0.875, "taken": False, "tried": [], "images": 0, "sentence": "",
        "flips": "none",
    }  # fmt: skip


def test_what_is_chosen_stands_in_bundle_and_result_and_is_judged_as_it_serves(trained, chosen):
    found = chosen.result["test_time"]
    settings = [(tried["image_size_px"], tried["crop_share"]) for tried in found["tried"]]
    assert settings[:2] == [(32, 0.875), (48, 0.875)] and [share for _, share in settings[2:]] == [0.95, 1.0]
    losses = [tried["loss"] for tried in found["tried"]]
    best = settings[int(np.argmin(losses))]
    assert (found["image_size_px"], found["crop_share"]) == best and found["taken"] is (best != settings[0])
    assert found["taken"] and chosen.result["validation"]["chose"]["test_settings"] == 4
    made = chosen.load("cpu")
    assert (made.preprocessing.image_size_px, made.preprocessing.resize_px) == (best[0], round(best[0] / best[1]))
    judged = evaluate(chosen.path, trained[0], part="val", quiet=True)
    assert judged.figures["loss"] == pytest.approx(chosen.result["validation"]["loss"], abs=1e-6)
    assert chosen.result["calibration"]["temperature"] == made.temperature


def test_each_setting_is_tried_as_a_bundle_of_it_would_serve(trained, chosen):
    photos, plain = trained
    rows = read_split(RunFolder(plain.path).split).part("val")
    paths = {row.file: photos / row.file for row in rows}
    settings = chosen.result["test_time"]["tried"]
    assert len(settings) == 4
    for tried in settings:
        setting = (tried["image_size_px"], tried["crop_share"])
        made = plain.load("cpu")
        judged = judge_photos(
            made.with_preprocessing(size_trials.with_setting(made.preprocessing, setting)), rows, paths
        )
        assert np.mean(list(size_trials.losses_of(judged).values())) == pytest.approx(tried["loss"], abs=1e-6)


@pytest.mark.slow
def test_a_run_that_was_stopped_while_it_was_judged_goes_on_to_the_same_size(
    trained, chosen, tmp_path, small, monkeypatch
):
    monkeypatch.setattr(size_trials, "is_less", lambda one, than: bool(one.mean() < than.mean()))
    with monkeypatch.context() as patch:
        patch.setattr(judge_run, "draw_curves", lambda run: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(trained[0], output=tmp_path / "run", overrides=[*small, *AUTO], quiet=True)
    resume(tmp_path / "run", quiet=True)
    assert differences(chosen.path, tmp_path / "run") == []


def test_a_choice_that_is_not_made_again_puts_the_trainings_setting_back(trained, tmp_path, small, chosen):
    photos, _ = trained
    run, recipe = RunFolder(chosen.path), read_recipe(chosen.path / "recipe.yaml")
    rows = read_split(run.split).part("val")
    paths = {row.file: photos / row.file for row in rows}
    before = run.bundle.joinpath("model.json").read_bytes()
    try:
        told = command.settle_size(run, recipe, rows, paths, "cpu", Screen(quiet=True), seconds=0)
        assert not told["taken"] and chosen.load("cpu").preprocessing.image_size_px == 32
    finally:
        run.bundle.joinpath("model.json").write_bytes(before)
