import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from fieldguide.deploy.answers import Status
from fieldguide.deploy.engines import Mirrored
from fieldguide.deploy.predictor import Predictor, load_predictor
from fieldguide.errors import PhotosError, UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import load_classifier, write_bundle, write_temperature
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description, read_description
from tests.deploy.conftest import CLASSES, PREPROCESSING
from tests.deploy.made_up import Computes

SHADES = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (10, 60, 120, 200, 250)]


def engine(images):
    """Logits that follow a photo's brightness."""
    shade = images.mean(dim=(1, 2, 3)).numpy()
    return np.stack([shade, -shade, np.full_like(shade, 0.2)], axis=1).astype(np.float32)


def predictor(temperature=None):
    return Predictor(Computes(engine), CLASSES, PREPROCESSING, temperature=temperature)


def edit(bundle, **fields):
    path = bundle / "model.json"
    data = json.loads(path.read_text()) | fields
    data.pop("description_sha256", None)  # a stranger can leave it out
    path.write_text(json.dumps(data))


def test_an_answer_that_is_no_number_is_a_failure_and_no_label():
    broken_engine = Computes(lambda images: np.where(images[:, 0, :1, 0] < 0, np.nan, engine(images)))
    broken = Predictor(broken_engine, CLASSES, PREPROCESSING)
    statuses = [answer.status_text for answer in broken.predict(SHADES)]
    assert statuses == ["failed: the model's answer is not finite; train it again"] * 3 + ["ok"] * 2


def left_and_right(images):
    """Logits that tell the left half of a photo from its right half."""
    left, right = (half.mean(dim=(1, 2, 3)).numpy() for half in images.chunk(2, dim=3))
    return np.stack([left, right, left * right], axis=1).astype(np.float32)


def test_with_flips_logits_are_the_mean_over_a_photo_and_its_mirror_image():
    photos = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(3)]
    plain = Predictor(Computes(left_and_right), CLASSES, PREPROCESSING)
    both = Predictor(Mirrored(Computes(left_and_right)), CLASSES, replace(PREPROCESSING, flips="horizontal"))
    one, other, mean = (
        np.stack([found for _, found, _ in made.logits(seen)])
        for made, seen in ((plain, photos), (plain, [photo[:, ::-1] for photo in photos]), (both, photos))
    )
    assert mean.dtype == np.float32 and not np.allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(mean, (one + other) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "folded"])
def test_the_flips_of_a_bundle_are_computed_by_every_engine(bundle, name):
    photos = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(4)]
    plain = load_predictor(bundle, "cpu")
    one, other = (
        np.stack([found for _, found, _ in plain.logits(seen)])
        for seen in (photos, [photo[:, ::-1] for photo in photos])
    )
    edit(bundle, preprocessing=PREPROCESSING.to_dict() | {"flips": "horizontal"})
    made = load_predictor(bundle, "cpu", name)
    found = np.stack([logits for _, logits, _ in made.logits(photos)])
    tolerance = 1e-5 if name == "plain" else 0.05 * np.ptp(one)
    np.testing.assert_allclose(found, (one + other) / 2, atol=tolerance)
    assert made.remarks == () and made.served_by.startswith(name)


def test_a_temperature_changes_confidences_and_no_label():
    plain, warm, cold = (predictor(value).predict(SHADES, top=3) for value in (None, 3.0, 0.2))
    assert [p.label for p in plain] == [p.label for p in warm] == [p.label for p in cold]
    assert [[name for name, _ in p.top] for p in plain] == [[name for name, _ in p.top] for p in warm]
    assert all(w.confidence < p.confidence < c.confidence for w, p, c in zip(warm, plain, cold, strict=True))


def test_probabilities_are_the_softmax_of_logits_by_the_temperature():
    made = predictor(3.0)
    logits = [found for _, found, _ in made.logits(SHADES)]
    assert logits[0].dtype == np.float32
    np.testing.assert_array_equal(logits, [found for _, found, _ in predictor().logits(SHADES)])
    expected = softmax(np.stack(logits).astype(np.float64) / 3, axis=1)
    found = made.predict_proba(SHADES)
    assert found.dtype == np.float32 and found.shape == (5, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_order_of_all_classes_stays_where_their_probabilities_round_to_0():
    names = [[name for name, _ in p.top] for p in predictor(1e-6).predict(SHADES, top=3)]
    assert names == [[name for name, _ in p.top] for p in predictor().predict(SHADES, top=3)]
    assert predictor(1e-6).predict(SHADES, top=3)[0].top[2][1] == 0


def test_a_photo_that_cannot_be_read_has_no_logits_and_is_failed_rather_than_unsure(tmp_path):
    found = list(predictor().logits([SHADES[0], tmp_path / "none.jpg", SHADES[1]]))
    assert [logits is None for _, logits, _ in found] == [False, True, False] and "does not exist" in found[1][2]
    assert predictor().predict([tmp_path / "none.jpg"], unsure_below=1)[0].status is Status.FAILED


def test_an_image_is_answered_as_its_file_and_a_broken_one_costs_no_other_its_answer(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, cut = tmp_path / "turned.jpg", tmp_path / "cut.jpg"
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    photo.rotate(90, expand=True).save(turned, exif=exif)
    cut.write_bytes(turned.read_bytes()[:-500])
    made = Predictor(Computes(left_and_right), CLASSES, PREPROCESSING)
    names = [turned, cut, turned, cut]
    images = [Image.open(io.BytesIO(name.read_bytes())) for name in names]
    by_file, by_image = (made.predict(each, top=3) for each in (names, images))
    assert [p.status for p in by_image] == ["ok", "failed"] * 2
    assert [(p.status_text, p.top) for p in by_image] == [(p.status_text, p.top) for p in by_file]


def test_one_image_may_be_given_many_times(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    found = Predictor(Computes(left_and_right), CLASSES, PREPROCESSING).predict(
        [Image.open(tmp_path / "a.png")] * 16, top=3
    )
    assert {(p.status, p.top) for p in found} == {("ok", found[0].top)}


def test_less_confidence_than_asked_for_is_unsure_and_keeps_its_label():
    made = predictor(3.0)
    plain = made.predict(SHADES)
    threshold = sorted(p.confidence for p in plain)[2]
    found = made.predict(SHADES, unsure_below=threshold)
    assert [p.status for p in found] == ["unsure" if p.confidence < threshold else "ok" for p in plain]
    assert {p.status for p in plain} == {"ok"} and {p.status for p in found} == {"ok", "unsure"}
    assert [(p.label, p.confidence) for p in found] == [(p.label, p.confidence) for p in plain]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_threshold_out_of_range_is_refused_before_any_photo(threshold):
    with pytest.raises(UsageError, match="must be above 0 and at most 1"):
        predictor().predict(SHADES, unsure_below=threshold)
    with pytest.raises(UsageError):
        predictor().stream(SHADES, unsure_below=threshold)


@pytest.mark.parametrize("top", [0, -1])
def test_no_class_at_all_cannot_be_listed(top):
    with pytest.raises(UsageError, match=f"top {top}: must be 1 or more"):
        predictor().predict(SHADES, top=top)


def test_a_bundle_keeps_its_temperature_and_its_weights(bundle):
    weights, before = (bundle / "model.safetensors").read_bytes(), load_predictor(bundle, "cpu")
    assert before.temperature == 1 and not before.is_calibrated
    write_temperature(bundle, 2.5, 780, "a note")
    data, after = json.loads((bundle / "model.json").read_text()), load_predictor(bundle, "cpu")
    assert data["temperature"] == 2.5 and data["calibration"] == {"fitted_on_n": 780, "note": "a note"}
    assert after.temperature == 2.5 and after.is_calibrated
    assert (bundle / "model.safetensors").read_bytes() == weights
    one, other = before.predict(SHADES), after.predict(SHADES)
    assert [p.label for p in one] == [p.label for p in other] and one[0].confidence > other[0].confidence


def test_a_bundle_of_an_earlier_version_has_none_and_reads_as_1(bundle):
    data = json.loads((bundle / "model.json").read_text())
    del data["temperature"], data["calibration"]
    del data["description_sha256"]
    (bundle / "model.json").write_text(json.dumps(data))
    assert read_description(bundle).temperature == 1 and read_description(bundle).calibration is None
    made = load_predictor(bundle, "cpu")
    assert not made.is_calibrated and made.predict(SHADES[:1])[0].status == "ok"


@pytest.mark.parametrize(
    "value", [0, -1.5, 1e-300, 1e300, 10**400, float("nan"), float("inf"), "2", "", True, None, [1], {"value": 1}]
)
def test_a_hostile_temperature_is_refused(bundle, value):
    edit(bundle, temperature=value)
    with pytest.raises(UsageError, match=r"model\.json: is damaged \(temperature is "):
        load_predictor(bundle, "cpu")


def test_a_hostile_calibration_is_refused(bundle):
    for value in ("x", [1], 3):
        edit(bundle, calibration=value)
        with pytest.raises(UsageError, match="is damaged"):
            load_predictor(bundle, "cpu")


def test_a_temperature_out_of_range_is_never_written(bundle):
    before = (bundle / "model.json").read_bytes()
    for value in (0.0, float("nan"), 1e9):
        with pytest.raises(ValueError, match="a temperature must be between"):
            write_temperature(bundle, value, 5, None)
    assert (bundle / "model.json").read_bytes() == before


def test_probabilities_of_a_photo_that_cannot_be_read_are_nan_only_where_that_was_asked_for(tmp_path):
    photos = [SHADES[0], tmp_path / "none.jpg", np.zeros((4, 4))]
    with pytest.raises(PhotosError) as error:
        predictor().predict_proba(photos)
    assert "2 photos cannot be read" in str(error.value) and "none.jpg does not exist" in str(error.value)
    assert "photo 2 has shape (4, 4) and type float64" in str(error.value)
    found = predictor().predict_proba(photos, unreadable="nan")
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True] and found[0].sum() == pytest.approx(1)
    assert predictor().predict_proba([]).shape == (0, 3)
    assert predictor().predict_proba(photos[1:], unreadable="nan").shape == (2, 3)
    with pytest.raises(UsageError, match="unreadable skip: must be raise or nan"):
        predictor().predict_proba(photos, unreadable="skip")


def test_features_are_what_the_head_takes(bundle):
    made = load_predictor(bundle, "cpu", "folded")
    classifier, _ = load_classifier(bundle)
    found = made.features(SHADES)
    assert found.dtype == np.float32 and found.shape == (5, classifier.interface.num_features)
    with torch.inference_mode():
        logits = classifier.head(torch.from_numpy(found)).numpy()
    expected = np.stack([row for _, row, _ in load_predictor(bundle, "cpu").logits(SHADES)])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.isnan(made.features([b"", SHADES[0]], unreadable="nan")).all(axis=1).tolist() == [True, False]
    assert made.features([]).shape == (0, found.shape[1])
    with pytest.raises(UsageError, match="load one from a run for features"):
        predictor().features(SHADES)


def test_reprs_are_one_short_line(bundle):
    made = load_predictor(bundle, torch.device("cpu"))
    assert repr(made) == f"Predictor({bundle}, 3 classes, 32 px, not calibrated, engine plain, device cpu)"
    good, bad = made.predict([SHADES[0], "none.jpg"], unsure_below=1)
    assert repr(good) == f"Prediction({good.label!r}, {good.confidence:.4f}, unsure)"
    assert repr(bad) == "Prediction('none.jpg', failed: does not exist)"


def test_features_of_joined_stages_are_what_the_head_takes(tmp_path):
    architecture = Architecture("test_resnet", "linear", None, 0.0, 3, "stages")
    description = Description(architecture, CLASSES, PREPROCESSING.to_dict(), "none")
    write_bundle(tmp_path / "bundle", description, make_classifier(architecture).state_dict())
    made = load_predictor(tmp_path / "bundle", "cpu")
    head, found = load_classifier(tmp_path / "bundle")[0].head, made.features(SHADES)
    assert found.shape == (5, 48 + 192 + 96)
    with torch.inference_mode():
        probabilities = head(torch.from_numpy(found)).softmax(dim=1).numpy()
    np.testing.assert_allclose(made.predict_proba(SHADES), probabilities, atol=1e-6)
