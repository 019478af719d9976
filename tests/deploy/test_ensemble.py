"""Several classifiers as one."""

import numpy as np
import pytest
from scipy.special import softmax

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.ensemble import Ensemble
from fieldguide.deploy.predictor import Predictor
from fieldguide.errors import UsageError
from tests.deploy.made_up import Computes

CLASSES = ("ash", "beech", "cedar")
SMALL, LARGE = (Preprocessing(side, side, "bilinear", (0.5,) * 3, (0.25,) * 3) for side in (16, 48))
PHOTOS = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(5)]


def engine_of(seed, sides):
    """Logits by chance from three patches' brightness; notes the sides that it was given."""
    weights = np.random.default_rng(seed).normal(0, 3, (3, 3))

    def run(images):
        sides.append(images.shape[-1])
        shades = np.stack([piece.mean(dim=(1, 2, 3)).numpy() for piece in images.chunk(3, dim=3)], axis=1)
        return (20 * shades @ weights).astype(np.float32)

    return Computes(run)


@pytest.fixture
def members():
    """Two predictors of other sizes and temperatures, the second with its classes in another order."""
    sides = []
    one = Predictor(engine_of(1, sides), CLASSES, SMALL, temperature=2.0)
    other = Predictor(engine_of(2, sides), ("cedar", "ash", "beech"), LARGE, temperature=0.5)
    return one, other, sides


def test_probabilities_are_the_mean_of_the_members_calibrated_ones_class_by_class(members):
    one, other, sides = members
    made = Ensemble([one, other], ["one", "other"])
    logits = np.stack([found for _, found, _ in made.logits(PHOTOS)])
    assert logits.dtype == np.float32 and set(sides) == {16, 48} and made.classes == CLASSES
    first, second = (member.predict_proba(PHOTOS) for member in (one, other))
    expected = (first + second[:, [1, 2, 0]]) / 2
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(made.predict_proba(PHOTOS), expected, atol=1e-6)
    told = made.predict(PHOTOS, top=3, unsure_below=0.6)
    assert [answer.label for answer in told] == [CLASSES[place] for place in expected.argmax(axis=1)]
    np.testing.assert_allclose([answer.confidence for answer in told], expected.max(axis=1), atol=1e-6)
    assert [answer.status == "unsure" for answer in told] == (expected.max(axis=1) < 0.6).tolist()


def test_photos_that_were_loaded_before_get_the_same_answers(members):
    made = Ensemble(members[:2], ["one", "other"])
    found = made.answered([made.load(photo) for photo in PHOTOS])
    np.testing.assert_allclose(found, [logits for _, logits, _ in made.logits(PHOTOS)], rtol=1e-6)


def test_one_member_alone_says_what_it_says_without_an_ensemble(members):
    one, _, _ = members
    alone, within = one.predict(PHOTOS), Ensemble([one], ["one"]).predict(PHOTOS)
    assert [answer.label for answer in alone] == [answer.label for answer in within]
    np.testing.assert_allclose([a.confidence for a in alone], [a.confidence for a in within], atol=1e-6)


def test_probabilities_that_round_to_0_stay_finite_and_ordered():
    sides = []
    sharp = [Predictor(engine_of(seed, sides), CLASSES, SMALL, temperature=1e-6) for seed in (1, 2)]
    logits = np.stack([found for _, found, _ in Ensemble(sharp, ["a", "b"]).logits(PHOTOS)])
    assert np.isfinite(logits).all() and (logits.min(axis=1) < -1000).all()


def test_photos_may_come_one_by_one_and_stay_in_order(members):
    made = Ensemble(members[:2], ["one", "other"])
    listed = made.predict(PHOTOS * 40)
    streamed = list(made.stream((photo for photo in PHOTOS * 40), batch_size=7))
    assert [answer.label for answer in streamed] == [answer.label for answer in listed]
    np.testing.assert_allclose([a.confidence for a in streamed], [a.confidence for a in listed], atol=1e-5)


def test_a_photo_that_one_member_cannot_answer_fails_for_all(members, tmp_path):
    one, _, _ = members
    broken = Predictor(Computes(lambda images: np.full((len(images), 3), np.nan, np.float32)), CLASSES, SMALL)
    made = Ensemble([one, broken], ["one", "broken"])
    assert {answer.status_text for answer in made.predict(PHOTOS)} == {
        "failed: the model's answer is not finite; train it again"
    }
    (tmp_path / "x.jpg").write_bytes(b"no photo")
    whole = Ensemble(members[:2], ["one", "other"])
    assert [answer.status_text for answer in whole.predict([PHOTOS[0], tmp_path / "x.jpg", PHOTOS[1]])] == [
        "ok", "failed: is not an image that can be read", "ok",
    ]  # fmt: skip


def test_it_is_calibrated_where_every_member_is(members):
    one, other, sides = members
    never = Predictor(engine_of(3, sides), CLASSES, SMALL)
    assert Ensemble([one, other], ["a", "b"]).is_calibrated and not Ensemble([one, never], ["a", "b"]).is_calibrated


def test_a_threshold_out_of_range_is_refused_before_any_photo(members):
    with pytest.raises(UsageError, match="must be above 0 and at most 1"):
        Ensemble(members[:2], ["one", "other"]).stream(PHOTOS, unsure_below=2)


def test_a_single_photo_instead_of_several_is_refused(members):
    with pytest.raises(UsageError, match="a list of photos"):
        Ensemble(members[:2], ["one", "other"]).predict("photo.jpg")


def test_other_classes_are_refused_and_each_is_named(members):
    stranger = Predictor(engine_of(3, []), ("ash", "beech", "oak", "elm"), SMALL)
    with pytest.raises(UsageError) as error:
        Ensemble([members[0], stranger], ["runs/a", "runs/b"])
    text = str(error.value)
    assert "runs/b: 2 of its 4 classes are not in runs/a" in text and "oak" in text and "elm" in text
    assert "runs/a: 1 of its 3 classes are not in runs/b" in text and "cedar" in text
