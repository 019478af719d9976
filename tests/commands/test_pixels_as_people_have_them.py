"""Pixels and outputs as people have them, one line a case: each is checked, trained on, predicted and evaluated.

A case says how the photos of a set are written, what `check` finds (harm, or nothing), and what a training says if it
refuses. All sets share one scene a photo, so that two classes can be told apart.
"""

import csv
import io
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from fieldguide import PhotosError, check, evaluate, predict
from fieldguide.data.read.reading import Reading, ValueRange
from tests.commands.by_the_report import train
from tests.odd_photos import encoded

PHOTOS = 9  # a class


def scene(hue, number):
    """(30, 40, 3) shares of white; two hues are told apart, and the first photo uses the whole range."""
    draw = np.random.default_rng([hue, number])
    made = np.kron(draw.random((5, 8, 3)), np.ones((6, 5, 1))) * (0.9 if hue else 0.5)
    made[0, 0], made[0, 1] = 1, 0
    return made


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def bits(made, depth):
    return np.round(made * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def pillow(kind, ending, mode="RGB"):
    return lambda made, number: (encoded(Image.fromarray(bits(made, 8)).convert(mode), kind), ending)


def gray(depth):
    return lambda made, number: (tiff(bits(made[..., 0], depth)), ".tif")


def colour(depth, **options):
    return lambda made, number: (tiff(bits(made, depth), photometric="rgb", **options), ".tif")


def planes(depth):
    array = {"photometric": "rgb", "planarconfig": "separate"}
    return lambda made, number: (tiff(np.moveaxis(bits(made, depth), -1, 0), **array), ".tif")


def floats(most):
    return lambda made, number: (tiff((made[..., 0] * most).astype(np.float32)), ".tif")


def bands(count):
    return lambda made, number: (
        tiff(np.stack([bits(made[..., place % 3], 8) for place in range(count)]), photometric="minisblack",
             planarconfig="separate"), ".tif",
    )  # fmt: skip


def infrared(made, number):
    array = np.concatenate([bits(made, 8), bits(made[::-1, :, :1], 8)], axis=-1)
    return tiff(array, photometric="rgb", extrasamples=["unassalpha"]), ".tif"


def turned(made, number):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(bits(made, 8)), "JPEG", exif=exif), ".jpg"


def inverted(made, number):
    return tiff(65_535 - bits(made[..., 0], 16), photometric="miniswhite"), ".tif"


FORMATS = (
    pillow("JPEG", ".jpg"), pillow("HEIF", ".HEIC"), pillow("HEIF", ".jpg"), pillow("AVIF", ".avif"),
    pillow("JPEG2000", ".jp2"), pillow("JPEG", ".jpeg", "CMYK"), pillow("PNG", ".png", "P"), turned, planes(8),
)  # fmt: skip
OF_16_BITS = (gray(16), planes(16), colour(16, compression="zlib"), inverted, colour(16))
TOLD, SHARES = ("data.value_range=[0,7]", "data.fit=pad"), ("data.value_range={percentiles: [1, 99]}",)
# name: how photos are written, settings, kinds of harm that `check` finds, words of a refused training
CASES = {
    "a phone's nine ways of 8 bits": (FORMATS, (), (), ""),
    "12 bits in files of 16": ((gray(12),), (), (), ""),
    "16 bits gray, in planes, packed, inverted, in colour": (OF_16_BITS, (), (), ""),
    "floats up to 1 and to 1.05": ((floats(1), floats(1.05)), (), (), ""),
    "floats up to 7": ((floats(7),), (), ("value_ranges",), "no bit depth explains"),
    "floats up to 7, told and padded": ((floats(7),), TOLD, ("value_ranges",), ""),
    "floats up to 7, by percentiles": ((floats(7),), SHARES, ("value_ranges",), ""),
    "12 and 16 bits mixed": ((gray(12), gray(16)), (), ("value_ranges",), ""),
    "8 bands": ((bands(8),), (), ("bands",), "is a TIFF of 8 bands"),
    "8 bands, three chosen and squashed": ((bands(8),), ("data.bands=[3,2,1]", "data.fit=squash"), (), ""),
    "infrared as alpha": ((infrared,), (), (), ""),
}


def write(root, *ways):
    for hue, name in enumerate("ab"):
        for part, count in (("train", PHOTOS), ("val", 2)):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                content, ending = ways[number % len(ways)](scene(hue, number + 100 * (part == "val")), number)
                (root / part / name / f"{number}{ending}").write_bytes(content)


def read(file):
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_set_is_checked_trained_on_predicted_and_evaluated(name, tmp_path, small):
    ways, settings, harms, refused = CASES[name]
    photos, run = tmp_path / "photos", tmp_path / "run"
    write(photos, *ways)
    found = {finding.kind.value for finding in check(photos, overrides=settings).findings if finding.severity == "harm"}
    assert found - {"one_class", "empty_class"} == set(harms)
    own = (*small, "training.max_epochs=1", "training.rounds=0", "data.test_flips=none", *settings)
    if refused:
        with pytest.raises(PhotosError, match=refused):
            train(photos, output=run, overrides=own, quiet=True)
        assert not run.exists()
        return
    result = train(photos, output=run, overrides=own, quiet=True).result
    assert result["validation"]["images"] == 4 and not result["validation"]["failed"]
    done = predict(run, photos / "val", tmp_path / "all.csv", engine="plain", quiet=True)
    assert not done.failed and done.images == 4
    alone = sorted((photos / "val" / "a").iterdir())[0]
    predict(run, alone, tmp_path / "alone.csv", engine="plain", quiet=True)
    (row,) = read(tmp_path / "alone.csv")
    (same,) = [row for row in read(tmp_path / "all.csv") if row["image"] == f"a/{alone.name}"]
    assert row["label"] == same["label"] and abs(float(row["confidence"]) - float(same["confidence"])) < 1e-4
    judged = evaluate(run, photos, quiet=True)
    assert judged.figures["images"] == 4 and judged.exit_code == 0
    assert sum(map(sum, judged.figures["confusion_matrix"]["rows"])) == 4


def test_deep_photos_for_a_model_that_saw_none_are_told_and_counted(tmp_path, small, caplog):
    write(tmp_path / "photos", pillow("PNG", ".png"))
    for name, made in (("gray.tif", gray(12)), ("colour.tif", colour(16)), ("float.tif", floats(1))):
        (tmp_path / "photos/val/a" / name).write_bytes(made(scene(0, 50), 0)[0])
    (found,) = [
        one for one in check(tmp_path / "photos").findings if one.kind == "value_ranges" and len(one.files) == 2
    ]
    assert found.severity == "harm" and "no training photo has such: they are read as 16 bits" in found.message
    own = (*small, "training.max_epochs=1", "training.rounds=0")
    run = train(tmp_path / "photos", output=tmp_path / "run", overrides=own, quiet=True)
    assert run.load().preprocessing.reading.value_range == ValueRange()
    assert any("no training photo has such" in remark for remark in run.result["remarks"])
    told = "3 photos with more than 8 bits, unlike the model's training photos: black to white is 0 to 65,535"
    assert any(told in remark for remark in evaluate(run.path, tmp_path / "photos", quiet=True).remarks)
    caplog.set_level("INFO", "fieldguide")
    predict(run.path, tmp_path / "photos/val/a", tmp_path / "a.csv", engine="plain", quiet=True)
    assert told in caplog.text


def test_a_model_of_12_bits_reads_other_depths_by_its_own_range_and_counts_what_it_clips(tmp_path, small):
    write(tmp_path / "photos", gray(12))
    own = (*small, "training.max_epochs=1", "training.rounds=0")
    run = train(tmp_path / "photos", output=tmp_path / "run", overrides=own, quiet=True)
    assert run.load().preprocessing.reading.value_range.integers == (0, 4_095)
    assert run.load().preprocessing.reading != Reading()
    shutil.copytree(tmp_path / "photos/val", tmp_path / "new")
    (tmp_path / "new/a/bright.tif").write_bytes(tiff(bits(scene(0, 7)[..., 0], 16)))
    (tmp_path / "new/a/none.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    predictor = run.load()
    answers = predictor.predict(sorted((tmp_path / "new/a").iterdir()))
    assert predictor.counted.clipped == 1 and [answer.status for answer in answers] == ["ok", "ok", "ok", "failed"]
    assert answers[-1].reason
