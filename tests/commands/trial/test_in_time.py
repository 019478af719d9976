"""The look at the photos within the command's minutes."""

import pytest

from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import in_time
from fieldguide.commands.trial.in_time import InTime
from fieldguide.data.look.findings import Topic


class Time:
    """A clock that goes on only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.busy = 0.0  # share of a core
        monkeypatch.setattr(in_time.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(in_time.time, "process_time", lambda: self.busy * self.now)

    def left(self, seconds):
        return lambda: seconds - self.now


@pytest.fixture
def clock(monkeypatch):
    return Time(monkeypatch)


@pytest.mark.parametrize(("seconds", "is_told"), [(100.0, True), (1_000.0, False), (None, False)])
def test_a_look_that_takes_over_half_of_the_time_says_so_early(clock, capsys, seconds, is_told):
    watch = InTime(Screen(), None if seconds is None else clock.left(seconds))
    with watch.counting("looking at photos", 1_000) as advance:
        for _ in range(30):
            clock.now += 0.1
            advance(1)
        told = " ".join(capsys.readouterr().out.split())
    expected = (
        "warning: looking at photos takes about 2 min of the 2 min that are left; for a better model give it 2 minutes "
        "more"
    )
    assert told == (expected if is_told else "")
    with watch.counting("comparing photos", 100) as advance:
        clock.now += 90
        advance(1)
    assert capsys.readouterr().out == ""  # once


def test_a_slow_look_asks_for_more_minutes_than_it_was_given(clock, capsys):
    """A request of one minute, 11 s of which were gone before the look, was once told to ask for one minute."""
    look(InTime(Screen(), clock.left(49.0)), clock, 100, lambda _: 0.026)
    told = " ".join(capsys.readouterr().out.split())
    assert told.endswith("takes about 26 s of the 49 s that are left; for a better model give it 1 minute more")


@pytest.mark.parametrize(("seconds", "asked"), [(100.0, 10), (10.0, 2)])
def test_near_duplicates_are_looked_for_in_a_tenth_of_the_time_left_and_two_seconds_at_least(
    clock, tmp_path, seconds, asked
):
    watch = InTime(Screen(quiet=True), clock.left(seconds))
    for second in range(asked + 1):
        clock.now = second
        assert not watch.is_late() and watch.remarks(tmp_path) == []
    clock.now += 0.1
    assert watch.is_late()
    [remark] = watch.remarks(tmp_path)
    assert remark.topic is Topic.NOT_COMPARED and "fieldguide check" in remark.sentence


def look(watch, clock, photos, seconds_a_photo):
    """A look at the first photos of 1,000."""
    with watch.counting("looking at photos", 1_000) as advance:
        for _ in range(photos):
            clock.now += seconds_a_photo(watch)
            advance(1)


@pytest.mark.parametrize(
    ("seconds", "busy", "needs", "hurries"),
    [(300.0, 1.5, False, True), (500.0, 1.5, False, False), (300.0, 0.2, False, False), (300.0, 1.5, True, False)],
)
def test_a_look_that_takes_a_quarter_of_the_time_makes_no_more_prints(clock, tmp_path, seconds, busy, needs, hurries):
    clock.busy, watch = busy, InTime(Screen(quiet=True), clock.left(seconds), needs_near_duplicates=needs)
    look(watch, clock, 30, lambda watch: 0.1)
    assert watch.hurries() is hurries
    assert [remark.topic for remark in watch.remarks(tmp_path)] == ([Topic.NOT_COMPARED] if hurries else [])


@pytest.mark.parametrize(("without_prints", "is_told"), [(0.04, False), (0.09, True)])
def test_a_look_that_hurries_is_timed_again_before_it_is_called_slow(clock, capsys, without_prints, is_told):
    clock.busy, watch = 1.0, InTime(Screen(), clock.left(150.0))
    look(watch, clock, 80, lambda watch: without_prints if watch.hurries() else 0.1)
    told = " ".join(capsys.readouterr().out.split())
    assert ("takes about 88 s of the 2 min that are left" in told) is is_told, told
    assert bool(told) is is_told


def test_without_minutes_nothing_is_late(clock, tmp_path):
    watch = InTime(Screen(quiet=True), None)
    clock.now = 1e9
    assert not watch.is_late() and watch.remarks(tmp_path) == []
