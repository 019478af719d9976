"""Which engine serves: chosen by what it costs, checked, and left when it fails. Time is what the tests say it is."""

import json

import numpy as np
import pytest
import torch

from fieldguide.deploy import serving
from fieldguide.deploy.choice import Kept, Speed, Speeds, key
from fieldguide.deploy.engines import Plain
from fieldguide.deploy.serving import Offer, Serving, relative_difference
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import make_classifier
from tests.deploy.made_up import Computes

CPU = torch.device("cpu")
ARCHITECTURE = Architecture("test_resnet", "linear", None, 0.0, 5)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Clock:
    """Goes on only when told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """bench(quick=0.1, slow=5.0): a Serving with made-up engines that take so many seconds a batch; plain takes 1."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        classifier = make_classifier(ARCHITECTURE).eval()
    truth = Plain(classifier, CPU).compute
    clock, calls = Clock(), {"built": [], "ran": []}

    def make(engine="auto", answers=None, worth_seconds=8, **seconds):
        def maker(name):
            def build(model, device, batch_size, side):
                calls["built"].append(name)
                clock.now += 2

                def run(images):
                    calls["ran"].append(name)
                    clock.now += seconds[name]
                    return (answers or {}).get(name, truth)(images)

                return Computes(run)

            return build

        offers = {name: Offer(lambda _: None, maker(name), worth_seconds) for name in seconds}
        monkeypatch.setattr(serving, "OFFERS", offers)
        monkeypatch.setattr(serving, "NAMES", ("auto", "plain", *offers))
        made = Serving(classifier, CPU, engine, 32, 4, Speeds({"machine": "a"}, tmp_path / "engines"))
        made._clock = clock

        def slow_plain(images):
            calls["ran"].append("plain")
            clock.now += 1
            return truth(images)

        made._plain = made._engines["plain"] = Computes(slow_plain)
        return made, calls

    return make


def send(made, batches, photos=None):
    made.expect(4 * batches if photos is None else photos)
    return [made.compute(IMAGES) for _ in range(batches)]


def test_the_fastest_serves_many_photos_and_all_of_them(bench):
    made, calls = bench(quick=0.1, slow=0.5)
    send(made, 3, photos=4000)
    assert made.served == {"quick": 12} and made.remarks == [] and calls["ran"].count("plain") == 1
    assert made.sentence().startswith("quick in ")


def test_a_first_batch_of_which_few_could_be_read_is_measured_as_a_whole_one(bench):
    made, _ = bench(quick=0.1, slow=3.0)
    made.expect(4000)
    made.compute(IMAGES[:1])
    speeds = {name: speed.images_per_second for name, speed in made._speeds.of.items()}
    assert speeds == pytest.approx({"plain": 4, "quick": 40, "slow": 4 / 3})


def test_few_photos_go_to_the_plain_model_at_once_and_build_nothing(bench):
    made, calls = bench(quick=0.1)
    send(made, 3)
    assert made.served == {"plain": 12} and calls["built"] == [] and calls["ran"] == ["plain"] * 3
    assert made.sentence() == "plain in fp32" and not (made._speeds.path).exists()


def test_an_engine_that_was_chosen_for_many_stays_for_few(bench):
    made, calls = bench(quick=0.1)
    made.ready_for_few()
    send(made, 1)
    assert made.chosen == "plain"  # nothing was chosen before
    send(made, 1, photos=4000)
    made.ready_for_few()
    calls["ran"].clear()
    send(made, 2)
    assert made.chosen == "quick" and calls["ran"] == ["quick"] * 2 and made.may_leave_plain(4)


def test_an_engine_that_differs_or_fails_for_few_photos_is_left(bench):
    def fail(images):
        raise RuntimeError("no memory")

    for answers, told in ((lambda images: np.zeros((len(images), 5)), "differs from the plain"), (fail, "no memory")):
        made, _ = bench(quick=0.1)
        send(made, 1, photos=4000)
        made._engines["quick"].compute = answers
        made.ready_for_few()
        assert made.chosen == "plain" and told in made.remarks[0] and not made.may_leave_plain(4)


def test_an_unknown_number_of_photos_counts_as_few(bench):
    made, calls = bench(quick=0.1)
    made.expect(None)
    made.compute(IMAGES)
    assert calls["built"] == [] and made.served == {"plain": 4}


def test_an_engine_slower_than_the_plain_model_does_not_serve(bench):
    made, _ = bench(slow=3.0)
    send(made, 2, photos=4000)
    assert made.served == {"plain": 8} and made.remarks == []


def test_an_engine_is_not_even_tried_where_finding_out_takes_longer_than_is_left(bench):
    made, calls = bench(quick=0.1, slow=0.5, worth_seconds=500)
    send(made, 2, photos=1000)  # 250 s of the plain model
    assert calls["built"] == [] and made.served == {"plain": 8}


def test_what_was_measured_is_kept_and_not_measured_again(bench):
    first, calls = bench(quick=0.1, slow=0.5)
    send(first, 1, photos=4000)
    assert calls["built"] == ["quick", "slow"]
    kept = json.loads(first._speeds.path.read_text())
    assert kept["key"] == {"machine": "a"} and set(kept["engines"]) == {"plain", "quick", "slow"}
    second, calls = bench(quick=0.1, slow=0.5)
    send(second, 1, photos=4000)
    assert calls["built"][2:] == ["quick"] and second.served == {"quick": 4}
    assert calls["ran"][-3:] == ["plain", "quick", "quick"]  # the check, and the serving


def test_with_kept_measurements_getting_ready_counts_too(bench):
    first, _ = bench(quick=0.5)
    send(first, 1, photos=4000)
    second, calls = bench(quick=0.5)
    send(second, 2, photos=12)  # 2 s with the plain model; 2 s to get ready and 1 s of work with the other
    assert second.served == {"plain": 8} and calls["built"] == ["quick"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"[]", b'{"key": {"machine": "a"}, "engines": {"quick": {"images_per_second": -1}}}',
                b'{"key": {"machine": "a"}, "engines": 3}', b'{"key": {"machine": "b"}, "engines": {}}',
                b'{"key": {"machine": "a"}, "engines": {"quick": {"images_per_second": 1e999, "ready_seconds": 0}}}'],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_written_anew(bench, content):
    made, calls = bench(quick=0.1)
    made._speeds.path.parent.mkdir()
    made._speeds.path.write_bytes(content)
    send(made, 1, photos=4000)
    assert made.served == {"quick": 4} and calls["built"] == ["quick"]
    assert json.loads(made._speeds.path.read_text())["engines"]["quick"]["images_per_second"] == pytest.approx(40)


def test_a_cache_that_cannot_be_written_stops_nothing(bench, tmp_path):
    (tmp_path / "engines").write_text("a file where the folder should be")
    made, _ = bench(quick=0.1)
    send(made, 1, photos=4000)
    assert made.served == {"quick": 4} and made.remarks == []


def test_an_engine_that_lies_never_serves_and_that_is_said(bench):
    truth = {}

    def lie(images):
        return truth["plain"](images)[:, ::-1].copy()

    made, _ = bench(answers={"quick": lie}, quick=0.1, slow=0.5)
    truth["plain"] = Plain(made._classifier, CPU).compute
    logits = send(made, 2, photos=4000)
    assert made.served == {"slow": 8} and len(made.remarks) == 1
    assert "engine quick differs from the plain engine on the first 4 photos" in made.remarks[0]
    np.testing.assert_array_equal(logits[0], truth["plain"](IMAGES))
    made, _ = bench(answers={"quick": lie}, engine="quick", quick=0.1)
    np.testing.assert_array_equal(send(made, 1)[0], truth["plain"](IMAGES))
    assert made.served == {"plain": 4} and "allowed are 0.05" in made.remarks[0]


def test_an_engine_that_cannot_compute_the_network_is_left_and_that_is_said(bench):
    def broken(images):
        raise RuntimeError("no such operator\nmore words")

    made, _ = bench(answers={"quick": broken}, quick=0.1)
    send(made, 2, photos=4000)
    assert made.served == {"plain": 8}
    assert made.remarks == ["engine quick cannot run this network (no such operator); another engine is used"]


@pytest.mark.parametrize("failure", ["raises", "nan", "shape"])
def test_an_engine_that_fails_in_mid_stream_is_left_for_the_plain_one(bench, failure):
    truth = {}
    state = {"calls": 0}

    def fails_later(images):
        state["calls"] += 1
        logits = truth["plain"](images)
        if state["calls"] <= 3:
            return logits
        if failure == "raises":
            raise MemoryError
        return np.full_like(logits, np.nan) if failure == "nan" else logits[:2]

    made, _ = bench(engine="quick", answers={"quick": fails_later}, quick=0.1)
    truth["plain"] = Plain(made._classifier, CPU).compute
    logits = send(made, 4)
    assert made.served == {"quick": 8, "plain": 8} and len(made.remarks) == 1
    assert made.remarks[0].startswith("engine quick failed after 8 photos: ")
    for found in logits:
        np.testing.assert_array_equal(found, truth["plain"](IMAGES))
    assert "quick in " in made.sentence() and "plain in fp32 (8 photos)" in made.sentence()


def test_the_plain_engine_is_not_checked_against_itself(bench):
    made, calls = bench(engine="plain", quick=0.1)
    send(made, 2, photos=4000)
    assert calls["ran"] == ["plain", "plain"] and calls["built"] == [] and made.served == {"plain": 8}


def test_the_choice_is_made_anew_for_another_number_of_photos(bench):
    made, _ = bench(quick=0.1)
    send(made, 1)
    send(made, 1, photos=4000)
    assert made.served == {"plain": 4, "quick": 4}


def test_a_difference_is_in_units_of_a_photos_own_range():
    expected = np.array([[0.0, 10.0, 5.0], [0.0, 1.0, 0.5]], dtype=np.float32)
    assert relative_difference(expected, expected) == 0
    assert relative_difference(expected + np.array([[1, 0, 0], [0, 0, 0]]), expected) == pytest.approx(0.1)
    assert relative_difference(expected + np.array([[0, 0, 0], [0, 0, 0.3]]), expected) == pytest.approx(0.3)
    for wrong in (np.full_like(expected, np.nan), expected[:1], expected[:, :2], None):
        assert not relative_difference(wrong, expected) <= 1


def test_the_key_holds_what_speed_depends_on_and_no_weights():
    one = key(ARCHITECTURE, 224, 32, CPU)
    assert one == key(ARCHITECTURE, 224, 32, CPU) and "openvino" in one["machine"]["libraries"]
    assert one != key(ARCHITECTURE, 256, 32, CPU) and one != key(
        Architecture("resnet18", "linear", None, 0.0, 5), 224, 32, CPU
    )
    assert Speeds(one, None).path is None and json.dumps(one)
    assert one != key(ARCHITECTURE, 224, 32, CPU, is_mirrored=True)


def test_speeds_are_kept_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path))
    assert Kept.of_user().folder == tmp_path / "engines" and Kept.of_user().files() == []


def test_seconds_are_work_and_getting_ready():
    assert Speed(10, 2).seconds(100) == 12 and Speed(10, 2).seconds(100, is_ready=True) == 10
