"""What is allowed: parameters, backbones, pretraining. Checked before the training, recorded in the result."""

import fnmatch
from typing import Any

from fieldguide.recipe.schema import Recipe


def verdict(recipe: Recipe, parameters: int, pretrained_on: str | None) -> dict[str, Any]:
    """Holds a model against the recipe's rules.

    Args:
        recipe: with its rules.
        parameters: of backbone and head together, counted.
        pretrained_on: what the weights were trained on: `none`, `imagenet-1k`, another name, or None
            where nobody can tell (a file).

    Returns:
        `kept` (bool), `broken` and `unverified` (lists of sentences), and the rules themselves.
    """
    rules, broken, unverified = recipe.rules, [], []
    if rules.max_parameters is not None and parameters >= rules.max_parameters:
        broken.append(
            f"rules.max_parameters: {parameters:,} parameters, and fewer than {rules.max_parameters:,} "
            "are allowed; choose a smaller model.backbone or head"
        )
    name = recipe.model.backbone.removeprefix("timm/")
    if rules.backbones is not None and not any(fnmatch.fnmatchcase(name, rule) for rule in rules.backbones):
        broken.append(
            f"rules.backbones: {recipe.model.backbone} is not among the allowed ({', '.join(rules.backbones)}); "
            "choose another model.backbone or change the rule"
        )
    if rules.pretraining == "imagenet-1k" and pretrained_on not in ("imagenet-1k", "none"):
        if pretrained_on is None:
            unverified.append(
                f"rules.pretraining: nothing in {recipe.model.weights} says that it was trained on "
                "ImageNet-1k alone; that is yours to know"
            )
        else:
            broken.append(
                f"rules.pretraining: the weights of {recipe.model.backbone} were trained on {pretrained_on}, "
                "and only imagenet-1k is allowed; choose weights tagged in1k alone"
            )
    return {"kept": not broken, "broken": broken, "unverified": unverified, **rules.model_dump(mode="json")}
