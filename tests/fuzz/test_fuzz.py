"""A short, repeatable run over every area; `make fuzz` is the long one. What that found stays here."""

import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.areas import AREAS, attempt
from tests.fuzz.damage import damaged


@pytest.mark.slow
@pytest.mark.parametrize("name", AREAS)
def test_damaged_files_are_taken_or_refused_in_words(name):
    area = AREAS[name]
    seeds = area.seeds()

    most = 10 if name == "table in Parquet" else 60  # each is a process of its own

    @settings(
        max_examples=most, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(damaged(seeds))
    def feed(content):
        attempt(area, content)

    feed()


@pytest.mark.parametrize("name", AREAS)
def test_a_seed_itself_is_taken(name):
    taken = [attempt(AREAS[name], content) for content in AREAS[name].seeds()]
    assert all(taken) if name != "image" else any(taken)


def test_the_harness_notices_an_error_that_is_no_persons():
    broken = type(AREAS["split"])(lambda: [b"x"], lambda path: [][1], "x")
    with pytest.raises(IndexError):
        attempt(broken, b"x")


def _npz_with(header):
    """An archive of predictions whose first array has such a header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("files.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return buffer.getvalue()


FOUND: dict[str, tuple[str, bytes]] = {
    "an array's header that breaks off in a bracket": ("predictions", _npz_with(b"{'descr': '<f4', 'shape': (1,\n")),
    "a field's name that is half a surrogate pair": ("recipe", b'{"\\ud800": 1, "training": {"seed": 3}}'),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_the_long_run_found_stays_mended(what):
    name, content = FOUND[what]
    attempt(AREAS[name], content)


@given(st.data())
@settings(max_examples=20, derandomize=True, database=None, deadline=None)
def test_damage_changes_files(data):
    seed = b'{"a": 1, "b": [2, 3]}' * 20
    assert isinstance(data.draw(damaged([seed])), bytes)
