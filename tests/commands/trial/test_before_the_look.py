"""What a request gets wrong is told before any photo is opened."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldguide import experiment
from fieldguide.commands.trial import prepare as preparing
from fieldguide.errors import UsageError
from tests.commands.by_the_report import train
from tests.commands.conftest import SMALL

OWN = tuple(setting for setting in SMALL if not setting.startswith("model.weights"))
RULE = "rules.max_parameters=1000"


def weights_of(kind, tmp_path):
    name, state = "x.safetensors", timm.create_model("test_vit").state_dict()
    if kind == "other":
        save_file(state, tmp_path / name)
    elif kind == "other pth":
        torch.save(state, tmp_path / (name := "x.pth"))
    else:
        name = "x.pth" if kind == "damaged pth" else name
        (tmp_path / name).write_bytes(b"\x80\2no weights")
    return tmp_path / name


@pytest.fixture(autouse=True)
def no_photo_is_opened(monkeypatch):
    monkeypatch.setattr(preparing, "look_over", lambda *_: pytest.fail("looked at photos"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("other", "fits only 0%"),
        ("other pth", "fits only 0%"),
        ("damaged", "cannot be read"),
        ("damaged pth", "is damaged"),
    ],
)
def test_weights_that_do_not_fit_or_are_damaged(photos, tmp_path, kind, told):
    weights = weights_of(kind, tmp_path)
    with pytest.raises(UsageError, match=rf"model\.weights: \S*x\.\w+ .*{told}"):
        train(photos, output=tmp_path / "run", overrides=OWN, weights=weights, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_rule_that_is_broken(photos, tmp_path):
    with pytest.raises(UsageError, match=r"max_parameters"):
        train(photos, output=tmp_path / "run", overrides=(*SMALL, RULE), quiet=True)


def test_every_recipe_of_an_experiment_by_its_name(photos, tmp_path):
    for name, more in (("good", ""), ("large", "rules: {max_parameters: 1000}\n"), ("other", "")):
        weights = "none" if name != "other" else weights_of("other", tmp_path)
        (tmp_path / f"{name}.yaml").write_text(
            f"model: {{backbone: test_resnet, weights: {weights}}}\n{more}"
            "training: {phases: [{max_epochs: 1, augmentation: none}], rounds: 0}\n"
        )
    recipes = [tmp_path / f"{name}.yaml" for name in ("good", "large", "other")]
    with pytest.raises(UsageError) as caught:
        experiment(photos, recipes, tmp_path / "runs", quiet=True)
    large, other = caught.value.problems
    assert large.startswith("large: ") and "max_parameters" in large
    assert other.startswith("other: model.weights: ") and "fits only" in other
    assert not (tmp_path / "runs").exists()
