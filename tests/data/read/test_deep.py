"""Photos with more than 8 bits, in bands and in planes: one range for a data set, and never a guess."""

import contextlib
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from fieldguide.data.look.facts import facts_of
from fieldguide.data.look.scan import Photo
from fieldguide.data.look.value_range import decide, measure, range_findings
from fieldguide.data.read.decode import OUTSIDE, UnreadableError, decode
from fieldguide.data.read.deep import Values, bits_of, depth
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.read.reading import Reading, ValueRange
from fieldguide.errors import PhotosError, UsageError
from tests.odd_photos import encoded, picture

SCENE = np.kron(np.random.default_rng(4).random((5, 8, 3)), np.ones((6, 5, 1)))  # (30, 40, 3), shares of white
SCENE[0, 0], SCENE[-1, -1] = 0, 1
GRAY = SCENE[..., 0]


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def of_bits(scene, bits):
    return np.round(scene * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def pixels(content, reading=200):
    return np.asarray(decode(content, reading)).astype(int)


def look(tmp_path, contents, part="train"):
    found = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{part}-{number}.tif"
        path.write_bytes(content)
        found.append(facts_of(Photo(path, path.name, part, "a")))
    return found


FILES = {
    "gray TIFF": lambda scene: tiff(scene[..., 0]),
    "colour TIFF": lambda scene: tiff(scene, photometric="rgb"),
    "colour in planes": lambda scene: tiff(np.moveaxis(scene, -1, 0), photometric="rgb", planarconfig="separate"),
    "packed colour": lambda scene: tiff(scene, photometric="rgb", compression="zlib"),
}


@pytest.mark.parametrize("name", FILES)
def test_all_depths_of_one_scene_give_the_same_8_bits_under_auto(name, tmp_path):
    made = {f"{bits} bits": of_bits(SCENE, bits) for bits in (8, 10, 12, 14, 16)}
    made |= {"floats": SCENE.astype(np.float32), "halves": SCENE.astype(np.float16), "doubles": SCENE}
    expected = SCENE * 255 if "colour" in name else np.repeat(GRAY[..., None] * 255, 3, axis=2)
    for depth_name, scene in made.items():
        content = FILES[name](scene)
        (facts,) = look(tmp_path, [content])
        reading = Reading(value_range=decide("auto", measure([facts])))
        assert not facts.reason and np.abs(pixels(content, reading) - expected).max() <= 1, depth_name


def test_a_colour_png_of_16_bits_keeps_all_of_them(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for bits in (12, 16):
        content = cv2.imencode(".png", of_bits(SCENE, bits)[..., ::-1])[1].tobytes()
        (facts,) = look(tmp_path, [content])
        assert "sixteen_bit" in facts.traits and facts.values.high == 2**bits - 1
        reading = Reading(value_range=decide("auto", measure([facts])))
        assert np.abs(pixels(content, reading) - SCENE * 255).max() <= 1
    with pytest.raises(UnreadableError, match="cut off"):
        decode(content[:-200])


def test_one_photo_alone_is_read_as_all_of_them_were(tmp_path):
    dark, bright = (tiff(of_bits(GRAY * share, 12)) for share in (0.1, 1.0))
    chosen = decide("auto", measure(look(tmp_path, [dark, bright])))
    assert chosen == ValueRange(integers=(0, 4_095))
    alone = pixels(dark, Reading(value_range=chosen))
    assert np.abs(alone[..., 0] - GRAY * 25.5).max() <= 1


def test_a_float_just_over_1_is_still_a_share_of_white(tmp_path):
    facts = look(tmp_path, [tiff((GRAY * most).astype(np.float32)) for most in (1.0, 1.05)])
    assert decide("auto", measure(facts)) == ValueRange(floats=(0, 1)) and not range_findings(facts)
    image = decode(tiff((GRAY * 1.05).astype(np.float32)))
    assert image.getpixel((39, 29)) == (255, 255, 255) and OUTSIDE in image.info
    assert OUTSIDE not in decode(tiff(GRAY.astype(np.float32))).info


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("integers", 0, 255, (0, 255)), ("integers", 0, 256, (0, 1_023)), ("integers", 7, 4_095, (0, 4_095)),
        ("integers", 0, 65_535, (0, 65_535)), ("integers", -1, 100, None), ("integers", 0, 2**24 - 1, (0, 2**24 - 1)),
        ("floats", 0, 0.2, (0, 1)), ("floats", 0, 1.1, (0, 1)), ("floats", 0, 7, None), ("floats", -0.5, 1, None),
        ("floats", 0, 250, (0, 255)), ("floats", 0, 4_000, (0, 4_095)), ("floats", 0, 1e6, None),
    ],
)  # fmt: skip
def test_a_bit_depth_explains_values_or_nothing_does(kind, low, high, expected):
    assert depth(Values(kind, low, high)) == expected


def test_what_no_depth_explains_is_asked_for_and_percentiles_or_a_range_answer(tmp_path):
    facts = look(tmp_path, [tiff((GRAY * 9 - 2).astype(np.float32))])
    with pytest.raises(PhotosError, match=r"floats from -2 to 7, .* data\.value_range=\[-2,7\]"):
        decide("auto", measure(facts))
    assert decide((-2.0, 7.0), measure(facts)) == ValueRange((-2, 7), (-2, 7))
    low, high = decide({"percentiles": (5.0, 95.0)}, measure(facts)).floats
    assert np.allclose([low, high], np.quantile(GRAY * 9 - 2, [0.05, 0.95]), atol=0.3)
    (finding,) = range_findings(facts)
    assert finding.severity == "harm" and "no bit depth explains" in finding.message


def test_photos_on_both_sides_of_a_decision_are_harm_and_named(tmp_path):
    train = look(tmp_path, [tiff(of_bits(GRAY, 16)), tiff(of_bits(GRAY, 12))])
    (finding,) = range_findings(train)
    assert finding.kind == "value_ranges" and finding.files == ("train-1.tif",)
    assert "read as 16 bits (0 to 65,535)" in finding.message and "train-1.tif (0 to 4,095)" in finding.message
    alike, beyond = look(tmp_path, [tiff(of_bits(GRAY, 12))]), look(tmp_path, [tiff(of_bits(GRAY, 14))], "val")
    (finding,) = range_findings([*alike, *beyond])
    assert finding.files == ("val-0.tif",) and finding.parts == ("val",)
    assert not range_findings(look(tmp_path, [tiff(of_bits(GRAY, 12)), tiff(of_bits(GRAY * 0.2, 12))]))


def test_bands_are_named_until_three_are_chosen():
    bands = np.stack([GRAY * share for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)])
    for options in ({"planarconfig": "separate"}, {"planarconfig": "contig"}):
        array = of_bits(bands if options["planarconfig"] == "separate" else np.moveaxis(bands, 0, -1), 8)
        content = tiff(array, photometric="minisblack", **options)
        with pytest.raises(UnreadableError, match=r"is a TIFF of 8 bands; .*data\.bands") as refused:
            decode(content)
        assert refused.value.kind == "bands"
        chosen = pixels(content, Reading(bands=(3, 2, 1)))
        assert np.abs(chosen - GRAY[..., None] * [76.5, 51, 25.5]).max() <= 1
        with pytest.raises(UnreadableError, match=r"of 8 bands, but data\.bands is \[9, 2, 1\]"):
            decode(content, Reading(bands=(9, 2, 1)))


def test_an_alpha_band_is_transparency_unless_all_photos_have_one_that_is_not(tmp_path):
    infrared = np.concatenate([SCENE, GRAY[::-1, :, None]], axis=-1)
    content = tiff(of_bits(infrared, 8), photometric="rgb", extrasamples=["unassalpha"])
    facts = look(tmp_path, [content])
    assert measure(facts).has_bands and facts[0].mask_share < 0.1
    assert np.abs(pixels(content, Reading(alpha="ignore")) - SCENE * 255).max() <= 1
    assert np.abs(pixels(content) - SCENE * 255).max() > 100
    plain = look(tmp_path, [tiff(of_bits(SCENE, 8), photometric="rgb")])
    assert not measure([*facts, *plain]).has_bands
    cut_out = np.concatenate([SCENE, (GRAY > 0.5)[..., None]], axis=-1)
    mask = look(tmp_path, [tiff(of_bits(cut_out, 8), photometric="rgb", extrasamples=["unassalpha"])])
    assert mask[0].mask_share == 1 and not measure(mask).has_bands


def test_pixels_that_are_missing_or_no_numbers_make_a_photo_unreadable():
    content = tiff(of_bits(SCENE, 16), photometric="rgb")
    with pytest.raises(UnreadableError) as refused:
        decode(content[:-500])
    assert refused.value.kind in ("truncated", "not_an_image")
    values = SCENE.astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(UnreadableError, match="pixels that are not numbers"):
        decode(tiff(values, photometric="rgb"))
    with pytest.raises(UnreadableError, match="of 64 bits that are no integers"):
        decode(tiff(GRAY.astype(np.complex64)))


def test_a_turned_tiff_of_16_bits_stands_upright():
    content = tiff(of_bits(SCENE, 16), photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    expected = pixels(tiff(of_bits(np.rot90(SCENE, -1), 16), photometric="rgb"))
    np.testing.assert_array_equal(pixels(content), expected)


@pytest.mark.parametrize(("fit", "size"), [("crop", (40, 30)), ("pad", (40, 40)), ("squash", (40, 40))])
def test_a_photo_that_is_not_square_is_kept_padded_or_squashed(fit, size):
    content = encoded(Image.new("RGB", (40, 30), (255, 0, 0)), "PNG")
    image = decode(content, Reading(fit=fit))
    assert image.size == size and image.getpixel((20, 15)) == (255, 0, 0)
    assert image.getpixel((0, 0)) == ((128, 128, 128) if fit == "pad" else (255, 0, 0))
    sliver = decode(encoded(Image.new("L", (20_000, 2)), "PNG"), Reading(fit=fit))
    assert max(sliver.size) == (20_000 if fit == "crop" else 4_096)


def test_a_bundle_keeps_how_files_are_read_and_an_old_one_has_the_defaults():
    reading = Reading(200, ValueRange(integers=(0, 4_095)), (3, 2, 1), "ignore", "pad")
    made = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3, reading=reading)
    assert Preprocessing.from_dict(made.to_dict()) == made
    old = {
        name: value for name, value in made.to_dict().items() if name not in ("value_range", "bands", "alpha", "fit")
    }
    assert Preprocessing.from_dict(old).reading == Reading() and reading.key() != Reading().key() == ""
    for damage in ({"fit": "fold"}, {"bands": [1, 2]}, {"value_range": {"integers": [5, 5]}}, {"alpha": 3}):
        with pytest.raises(UsageError, match="preprocessing: "):
            Preprocessing.from_dict(made.to_dict() | damage)


def test_a_range_is_told_by_its_bits():
    assert bits_of((0, 4_095)) == "12 bits (0 to 4,095)" and bits_of((0, 1)) == "0 to 1"
    assert bits_of((-2, 7.5)) == "-2 to 7.5"


def test_what_decoders_print_is_kept_from_the_terminal_and_is_the_reason(capfd):
    whole, draw, reasons = encoded(picture(1), "TIFF", compression="tiff_lzw"), np.random.default_rng(0), set()
    for _ in range(40):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(damaged), 4):
            damaged[place] ^= int(draw.integers(1, 256))
        with contextlib.suppress(UnreadableError):
            decode(bytes(damaged))
            continue
        with pytest.raises(UnreadableError) as refused:
            decode(bytes(damaged))
        reasons.add(str(refused.value))
    assert "cannot be decoded (Using code not yet in table)" in reasons
    assert capfd.readouterr() == ("", "")
