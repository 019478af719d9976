"""TrivialAugment and random erasing through a whole training, by both engines."""

import pytest

from tests.commands.by_the_report import train

OWN = ("augmentation.policies.own={trivial_augment: wide, erasing: 0.5}", "training.phases.0.augmentation=own",
       "training.rounds=0")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["exact", "fast"])
def test_an_augmentation_of_ones_own_is_trained_with_and_gives_the_same_again(execution, photos, tmp_path, small):
    engine = f"augmentation.engine={'fused' if execution == 'fast' else 'reference'}"
    overrides = (*small, *OWN, f"execution={execution}", engine)
    first, again = (
        train(photos, output=tmp_path / name, overrides=overrides, quiet=True) for name in ("first", "again")
    )
    plain = train(
        photos,
        output=tmp_path / "plain",
        overrides=(*overrides, "augmentation.policies.own={trivial_augment: none, erasing: 0}"),
        quiet=True,
    )
    assert first.result["training"] == again.result["training"] != plain.result["training"]
    assert first.result["validation"] == again.result["validation"]
    text = (first.path / "recipe.yaml").read_text()
    assert "trivial_augment: wide" in text and "erasing: 0.5" in text
