"""Rules on parameters, backbones and pretraining: checked before the training, recorded in the result."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fieldguide.errors import counted
from fieldguide.recipe.schema import Recipe, Rules

PRETRAINING = ("any", "imagenet-1k", "none")  # each stricter than the one before
FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")  # licences that allow any use
NOT_COMMERCIAL = ("cc-by-nc", "fair-noncommercial", "seer-license", "apple-amlr")  # beginnings of licences that do not


@dataclass(frozen=True)
class Member:
    """A model of an ensemble."""

    name: str  # for people
    backbone: str  # as timm names it
    parameters: int  # of backbone and head together, counted
    pretrained_on: str | None  # as for `verdict`
    rules: Rules | None  # of its run's recipe; None: unknown, as for a bundle without its run
    photos: frozenset[str] = frozenset()  # checksums of all photos in its run's folder; empty if unknown
    before: frozenset[str] | None = frozenset()  # of those that earlier runs trained its first weights on, if known
    licence: str | None = None  # of its first weights; None: unknown


def allows_commercial_use(licence: str | None) -> bool | None:
    """Whether a licence by timm's name for it does; None if it is unknown, or has terms of its own to read."""
    if licence is None:
        return None
    return False if licence.startswith(NOT_COMMERCIAL) else True if licence in FREE else None


def verdict(
    recipe: Recipe,
    parameters: int,
    pretrained_on: str | None,
    other_photos: int = 0,
    unknown: Sequence[str] = (),
    licence: str | None = None,
) -> dict[str, Any]:
    """Checks a model against the recipe's rules.

    Args:
        parameters: of backbone and head together, counted.
        pretrained_on: what the weights were trained on: `none`, `imagenet-1k`, another name, or None if
            unknown (a file); for an earlier run, what that one started from.
        other_photos: how many photos outside the folder an earlier run trained the weights on.
        unknown: earlier weights whose photos are unknown (a bundle without its run).
        licence: of the weights, by timm's name for it; None if unknown.

    Returns:
        `kept` (bool), `broken` and `unverified` (lists of sentences), `weights_licence`, and the rules themselves.
    """
    rules = recipe.rules
    broken: list[str] = []
    if rules.max_parameters is not None and parameters >= rules.max_parameters:
        broken.append(
            f"rules.max_parameters: {parameters:,} parameters, but fewer than {rules.max_parameters:,} "
            "are allowed; choose a smaller model.backbone or head"
        )
    if not _allows_backbone(rules, recipe.model.backbone):
        assert rules.backbones is not None
        broken.append(
            f"rules.backbones: {recipe.model.backbone} is not allowed (only {', '.join(rules.backbones)}); "
            "choose another model.backbone or change the rule"
        )
    if rules.pretraining == "imagenet-1k" and pretrained_on not in ("imagenet-1k", "none", None):
        broken.append(
            f"rules.pretraining: the weights of {recipe.model.backbone} were trained on {pretrained_on}, "
            "but only imagenet-1k is allowed; choose weights whose only tag is in1k"
        )
    beyond, unverified = _of_trainings_before(recipe, pretrained_on, other_photos, unknown)
    broken += beyond
    if rules.licence == "commercial" and pretrained_on != "none":
        source = recipe.model.backbone if recipe.model.weights == "hub" else recipe.model.weights
        problem, is_sure = _problem_with_licence(source, licence)
        (broken if is_sure else unverified).extend(problem)
    said = {"kept": not broken, "broken": broken, "unverified": unverified, "weights_licence": licence}
    return said | rules.model_dump(mode="json")


def _problem_with_licence(source: str, licence: str | None) -> tuple[list[str], bool]:
    """A sentence, or none; and whether it is certain."""
    allows = allows_commercial_use(licence)
    if allows is None:
        told = f"the licence is {licence}" if licence else "the licence is unknown"
        what = f"rules.licence: cannot verify that the weights of {source} allow commercial use ({told})"
        return [f"{what}; read the licence yourself"], False
    if allows:
        return [], False
    return [
        f"rules.licence: the weights of {source} are under {licence}, which forbids commercial use; choose weights "
        f"under {', '.join(FREE)}, model.weights none, or change the rule"
    ], True


def _of_trainings_before(
    recipe: Recipe, pretrained_on: str | None, other_photos: int, unknown: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Rules that the earlier training of the weights breaks, and rules that cannot be verified for it."""
    weights, broken, unverified = recipe.model.weights, [], []
    told = ", ".join(unknown) or weights
    demands: dict[str, tuple[str, str]] = {}  # what to verify of the weights, and what is allowed, by rule
    if recipe.rules.pretraining == "imagenet-1k":
        demands["pretraining"] = f"that {told} was trained only on ImageNet-1k", "only imagenet-1k is"
    if recipe.rules.external_data == "none":
        demands["external_data"] = f"which photos {told} was trained on", "only the folder's own photos are"
    for rule, (what, allowed) in demands.items():
        if pretrained_on is None or unknown:
            unverified.append(f"rules.{rule}: cannot verify {what}; check it yourself")
        if other_photos:
            broken.append(
                f"rules.{rule}: {weights} was trained on {counted(other_photos, 'photo')} outside this folder, but "
                f"{allowed} allowed; start from other weights (model.weights) or change the rule"
            )
    return broken, unverified


def verdict_on_ensemble(members: Sequence[Member]) -> dict[str, Any]:
    """Checks the models of an ensemble against the rules of all their runs: the strictest of each holds for all.

    Returns:
        As `verdict`, with the sum of `parameters`; `backbones` has a list of patterns for each run with that rule.
    """
    ruled = [(member.name, member.rules) for member in members if member.rules is not None]
    parameters = sum(member.parameters for member in members)
    most = [(rules.max_parameters, name) for name, rules in ruled if rules.max_parameters is not None]
    broken = _too_many(members, parameters, *min(most)) if most else []
    for member in members:
        against = [name for name, rules in ruled if not _allows_backbone(rules, member.backbone)]
        broken += [f"rules.backbones: {name} does not allow {member.backbone} of {member.name}" for name in against[:1]]
    pretraining, asked_by = max(
        ((rules.pretraining, name) for name, rules in ruled),
        key=lambda pair: PRETRAINING.index(pair[0]),
        default=("any", ""),
    )
    unverified = [
        f"{member.name}: a bundle without its run, so its own rules are unknown"
        for member in members
        if member.rules is None
    ]
    for member in members:
        problem, is_sure = _problem_with_pretraining(member, pretraining, asked_by)
        if problem:
            (broken if is_sure else unverified).append(problem)
        if any(rules.licence == "commercial" for _, rules in ruled) and member.pretrained_on != "none":
            told, is_sure = _problem_with_licence(member.name, member.licence)
            (broken if is_sure else unverified).extend(told)
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
        "licence": "commercial" if any(rules.licence == "commercial" for _, rules in ruled) else "any",
    }


def _allows_backbone(rules: Rules, backbone: str) -> bool:
    name = backbone.removeprefix("timm/")
    return rules.backbones is None or any(fnmatch.fnmatchcase(name, rule) for rule in rules.backbones)


def _too_many(members: Sequence[Member], parameters: int, most: int, asked_by: str) -> list[str]:
    if parameters < most:
        return []
    each = " + ".join(f"{member.parameters:,}" for member in members)
    return [
        f"rules.max_parameters: {parameters:,} parameters in {len(members)} runs ({each}), but the rules of {asked_by} "
        f"allow fewer than {most:,}"
    ]


def _problem_with_pretraining(member: Member, allowed: str, asked_by: str) -> tuple[str, bool]:
    """A sentence, or an empty one; and whether it is certain: for weights from a file it is not."""
    if allowed == "any":
        return "", True
    if member.before is not None and (beyond := len(member.before - member.photos)):
        what = f"{counted(beyond, 'photo')} outside its folder"
        return f"rules.pretraining: {member.name} started from {what}, but {asked_by} allows only {allowed}", True
    if member.pretrained_on in ("none", allowed):
        return "", True
    if member.pretrained_on is None and allowed != "none":
        return f"rules.pretraining: cannot verify what {member.name} was pretrained on; check it yourself", False
    source = member.pretrained_on or "unknown photos"
    return f"rules.pretraining: {member.name} was pretrained on {source}, but {asked_by} allows only {allowed}", True


def _other_photos(members: Sequence[Member]) -> list[str]:
    """For each run that allows no external data, the others that may have been trained on photos outside its folder."""
    return [
        f"rules.external_data: {strict.name} allows none, but {other.name} may have been trained on photos outside its "
        "folder; check it yourself"
        for strict in members
        if strict.rules is not None and strict.rules.external_data != "any"
        for other in members
        if other is not strict and not _is_within(other, strict.photos)
    ]


def _is_within(member: Member, photos: frozenset[str]) -> bool:
    """Whether all photos that it was trained on, now and before, are known and among these."""
    return bool(member.photos) and member.before is not None and member.photos | member.before <= photos
