"""What is written comes back; what is damaged is named."""

import zipfile

import numpy as np
import pytest
from scipy.special import softmax

from fieldguide.errors import UsageError
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions


def some_predictions(dtype=np.float32, photos=5):
    logits = np.random.default_rng(0).normal(size=(photos, 3)).astype(dtype)
    files = tuple(f"Müll/фото {i}.jpg" for i in range(photos))
    return Predictions(files, np.arange(photos) % 3, logits, ("daisy", "Löwenzahn", "玫瑰"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("photos", [0, 1, 5])
def test_what_is_written_comes_back_to_the_bit(tmp_path, dtype, photos):
    before = some_predictions(dtype, photos)
    write_predictions(tmp_path / "p.npz", before)
    after = read_predictions(tmp_path / "p.npz")
    assert (after.files, after.classes) == (before.files, before.classes)
    assert after.logits.dtype == dtype
    np.testing.assert_array_equal(after.logits, before.logits)
    np.testing.assert_array_equal(after.labels, before.labels)


def test_the_same_content_gives_the_same_bytes_and_nothing_else_is_left(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_predictions(tmp_path / name, some_predictions())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_probabilities_are_those_of_scipy_in_double_precision():
    predictions = some_predictions()
    expected = softmax(predictions.logits.astype(np.float64) / 2.5, axis=1)
    np.testing.assert_allclose(predictions.probabilities(2.5), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        some_predictions().probabilities(temperature)


def parts(**changed):
    whole = {
        "files": ("a", "b"),
        "labels": np.array([0, 1]),
        "logits": np.zeros((2, 2)),
        "classes": ("x", "y"),
    }
    return whole | changed


WRONG = [
    ({"files": ("a", "b", "c")}, "3 files"),
    ({"files": ("a", "a")}, "stand in it twice"),
    ({"labels": np.array([0, 2])}, "labels from 0 to 2"),
    ({"labels": np.array([-1, 0])}, "labels from -1"),
    ({"labels": np.array([0.0, 1.0])}, "int64"),
    ({"logits": np.zeros((2, 3))}, "logits"),
    ({"logits": np.zeros(2)}, "logits"),
    ({"logits": np.array([[0, np.nan], [0, 1]])}, "1 photos have logits that are not finite"),
    ({"logits": np.array([[0, np.inf], [0, 1]])}, "not finite"),
    ({"classes": ("x", "x")}, "two of one name"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_parts_that_do_not_go_together_are_refused_in_memory_and_in_a_file(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        Predictions(**parts(**changed))
    path = tmp_path / "wrong.npz"
    np.savez(path, **parts(**changed))
    with pytest.raises(UsageError, match=message) as raised:
        read_predictions(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.npz: there is no such file"):
        read_predictions(tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.npz: cannot be read as predictions"):
        read_predictions(tmp_path / "x.npz")


def test_an_archive_without_an_array_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", files=np.array(["a"]))
    with pytest.raises(UsageError, match="labels"):
        read_predictions(tmp_path / "x.npz")


def test_compressed_arrays_are_refused_before_they_take_memory(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **parts(), more=np.zeros(10**7))
    with pytest.raises(UsageError, match="is compressed, which fieldguide never writes"):
        read_predictions(tmp_path / "x.npz")


def archive_of(path, headers):
    """An archive of arrays whose headers promise what they like, without any data."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, (dtype, shape) in headers.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


NOTHING = {"files": ("<U1", (0,)), "labels": ("<i8", (0,)), "logits": ("<f4", (0, 2)), "classes": ("<U1", (0,))}


@pytest.mark.parametrize(
    "headers",
    [
        NOTHING | {"files": ("<U0", (10**12,))},
        NOTHING | {"logits": ("<f4", (0, 10**12)), "classes": ("<U0", (10**12,))},
        NOTHING | {"files": ("<U9", (10**12,))},
        NOTHING | {"files": ("|V0", (10**12,))},
        NOTHING | {"labels": ("<i8", (10**15,))},
    ],
)
def test_arrays_that_promise_more_than_the_file_holds_take_no_memory(tmp_path, headers):
    archive_of(tmp_path / "x.npz", headers)
    with pytest.raises(UsageError, match="cannot be read as predictions"):
        read_predictions(tmp_path / "x.npz")


def test_a_name_that_no_file_could_hold_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **parts(files=("a", "\ud800")))
    with pytest.raises(UsageError, match="a name in it is no text"):
        read_predictions(tmp_path / "x.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", **parts(files=np.array(["a", "b"], dtype=object)))
    with pytest.raises(UsageError, match="cannot be read"):
        read_predictions(tmp_path / "x.npz")


def test_a_file_with_any_one_byte_wrong_or_cut_is_read_right_or_refused(tmp_path):
    path, whole = tmp_path / "p.npz", some_predictions()
    write_predictions(path, whole)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        for damaged in (content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :], content[:place]):
            path.write_bytes(damaged)
            try:
                read = read_predictions(path)
            except UsageError:
                continue
            np.testing.assert_array_equal(read.logits, whole.logits)
            assert read.files == whole.files
