"""What is allowed: parameters, backbones, pretraining. Checked before the training, recorded in the result."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fieldguide.errors import counted
from fieldguide.recipe.schema import Recipe, Rules

PRETRAINING = ("any", "imagenet-1k", "none")  # each stricter than the one before


@dataclass(frozen=True)
class Member:
    """A model that is used together with others.

    Attributes:
        name: for people.
        backbone: as timm names it.
        parameters: of backbone and head together, counted.
        pretrained_on: as for `verdict`.
        rules: of its run's recipe; None where nobody can tell, for a bundle without its run.
        photos: checksums of all photos in its run's folder; empty where nobody can tell.
        before: checksums of the photos that its first weights were trained on by earlier runs; None where nobody can
            tell.
    """

    name: str
    backbone: str
    parameters: int
    pretrained_on: str | None
    rules: Rules | None
    photos: frozenset[str] = frozenset()
    before: frozenset[str] | None = frozenset()


def verdict(
    recipe: Recipe, parameters: int, pretrained_on: str | None, other_photos: int = 0, unknown: Sequence[str] = ()
) -> dict[str, Any]:
    """Holds a model against the recipe's rules.

    Args:
        recipe: with its rules.
        parameters: of backbone and head together, counted.
        pretrained_on: what the weights were trained on: `none`, `imagenet-1k`, another name, or None
            where nobody can tell (a file); of an earlier run what this one's began from.
        other_photos: how many photos that are not in the folder an earlier run trained the weights on.
        unknown: earlier weights of which nobody can tell the photos (a bundle that left its run).

    Returns:
        `kept` (bool), `broken` and `unverified` (lists of sentences), and the rules themselves.
    """
    rules = recipe.rules
    broken: list[str] = []
    if rules.max_parameters is not None and parameters >= rules.max_parameters:
        broken.append(
            f"rules.max_parameters: {parameters:,} parameters, and fewer than {rules.max_parameters:,} "
            "are allowed; choose a smaller model.backbone or head"
        )
    if not _allows_backbone(rules, recipe.model.backbone):
        assert rules.backbones is not None
        broken.append(
            f"rules.backbones: {recipe.model.backbone} is not among the allowed ({', '.join(rules.backbones)}); "
            "choose another model.backbone or change the rule"
        )
    if rules.pretraining == "imagenet-1k" and pretrained_on not in ("imagenet-1k", "none", None):
        broken.append(
            f"rules.pretraining: the weights of {recipe.model.backbone} were trained on {pretrained_on}, "
            "and only imagenet-1k is allowed; choose weights tagged in1k alone"
        )
    beyond, unverified = _of_trainings_before(recipe, pretrained_on, other_photos, unknown)
    broken += beyond
    return {"kept": not broken, "broken": broken, "unverified": unverified, **rules.model_dump(mode="json")}


def _of_trainings_before(
    recipe: Recipe, pretrained_on: str | None, other_photos: int, unknown: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What rules of data are broken by what the weights were trained on before, and which nobody can tell of."""
    rules, weights, broken, unverified = recipe.rules, recipe.model.weights, [], []
    told = ", ".join(unknown) or weights
    if rules.pretraining == "imagenet-1k":
        if pretrained_on is None or unknown:
            unverified.append(
                f"rules.pretraining: nothing in {told} says that it was trained on ImageNet-1k alone; that is yours to "
                "know"
            )
        if other_photos:
            broken.append(_beyond(weights, other_photos, "rules.pretraining", "imagenet-1k alone is"))
    if rules.external_data == "none":
        if pretrained_on is None or unknown:
            unverified.append(
                f"rules.external_data: nothing says which photos {told} was trained on; that is yours to know"
            )
        if other_photos:
            broken.append(_beyond(weights, other_photos, "rules.external_data", "none but the folder's are"))
    return broken, unverified


def _beyond(weights: str, photos: int, rule: str, allowed: str) -> str:
    return (
        f"{rule}: {weights} was trained on {counted(photos, 'photo')} that this folder does not have, and {allowed} "
        "allowed; start from other weights (model.weights) or change the rule"
    )


def verdict_on_ensemble(members: Sequence[Member]) -> dict[str, Any]:
    """Holds models that are used together against the rules of all their runs: the strictest of each holds for all.

    Args:
        members: whose parameters are summed.

    Returns:
        As `verdict`, with `parameters` in all; `backbones` has a list of patterns for each run that has the rule.
    """
    ruled = [(member.name, member.rules) for member in members if member.rules is not None]
    parameters = sum(member.parameters for member in members)
    most = [(rules.max_parameters, name) for name, rules in ruled if rules.max_parameters is not None]
    broken = _too_many(members, parameters, *min(most)) if most else []
    for member in members:
        broken += _problem_with_backbone(member, ruled)
    pretraining, asked_by = max(
        ((rules.pretraining, name) for name, rules in ruled),
        key=lambda pair: PRETRAINING.index(pair[0]),
        default=("any", ""),
    )
    unverified = [
        f"{member.name}: is a bundle without its run, so its own rules are not known"
        for member in members
        if member.rules is None
    ]
    for member in members:
        problem, is_sure = _problem_with_pretraining(member, pretraining, asked_by)
        if problem:
            (broken if is_sure else unverified).append(problem)
    unverified += _other_photos(members)
    return {
        "kept": not broken,
        "broken": broken,
        "unverified": unverified,
        "parameters": parameters,
        "max_parameters": min(most)[0] if most else None,
        "backbones": [list(rules.backbones) for _, rules in ruled if rules.backbones is not None] or None,
        "pretraining": pretraining,
        "external_data": "none" if any(rules.external_data == "none" for _, rules in ruled) else "any",
    }


def _allows_backbone(rules: Rules, backbone: str) -> bool:
    name = backbone.removeprefix("timm/")
    return rules.backbones is None or any(fnmatch.fnmatchcase(name, rule) for rule in rules.backbones)


def _too_many(members: Sequence[Member], parameters: int, most: int, asked_by: str) -> list[str]:
    if parameters < most:
        return []
    each = " + ".join(f"{member.parameters:,}" for member in members)
    return [
        f"rules.max_parameters: {parameters:,} parameters in {len(members)} runs ({each}), and the rules of {asked_by} "
        f"allow fewer than {most:,}"
    ]


def _problem_with_backbone(member: Member, ruled: Sequence[tuple[str, Rules]]) -> list[str]:
    against = [name for name, rules in ruled if not _allows_backbone(rules, member.backbone)]
    if not against:
        return []
    return [f"rules.backbones: {member.backbone} of {member.name} is not among those that {against[0]} allows"]


def _problem_with_pretraining(member: Member, allowed: str, asked_by: str) -> tuple[str, bool]:
    """A sentence, or an empty one; and whether it is sure, for of weights from a file nobody can tell."""
    if allowed == "any":
        return "", True
    if member.before is not None and (beyond := len(member.before - member.photos)):
        what = f"{counted(beyond, 'photo')} that its folder does not have"
        return f"rules.pretraining: {member.name} began from {what}, and {asked_by} allows {allowed} alone", True
    if member.pretrained_on in ("none", allowed):
        return "", True
    if member.pretrained_on is None and allowed != "none":
        return f"rules.pretraining: nothing says what {member.name} was pretrained on; that is yours to know", False
    source = member.pretrained_on or "photos that nobody can tell"
    return f"rules.pretraining: {member.name} was pretrained on {source}, and {asked_by} allows {allowed} alone", True


def _other_photos(members: Sequence[Member]) -> list[str]:
    """Where a run allows no external data, others that may have been trained on photos which are not in its folder."""
    found = []
    for strict in members:
        if strict.rules is None or strict.rules.external_data == "any":
            continue
        for other in members:
            if other is not strict and not _is_within(other, strict.photos):
                found.append(
                    f"rules.external_data: {strict.name} allows none, and {other.name} may have been trained on photos "
                    "that are not in its folder; that is yours to know"
                )
    return found


def _is_within(member: Member, photos: frozenset[str]) -> bool:
    """Whether all that it was trained on, by itself and before, is known and among these."""
    return bool(member.photos) and member.before is not None and member.photos | member.before <= photos
