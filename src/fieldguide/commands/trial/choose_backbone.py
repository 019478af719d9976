"""`model.backbone: auto` in a training: the candidates before any photo is read, the choice once photos are split."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fieldguide import assemble, world
from fieldguide.assemble.candidates import Candidate, by_reputation, candidates_at_hand
from fieldguide.assemble.measuring import Measuring
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.split.partition import Split
from fieldguide.errors import UsageError, counted
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.schema import Recipe


@dataclass(frozen=True)
class OpenBackbone:
    """A recipe whose backbone is not chosen yet, and the candidates."""

    recipe: Recipe
    candidates: tuple[Candidate, ...]


def first_backbone(
    recipe: Recipe, num_classes: int, images: int, device: torch.device
) -> tuple[Recipe, OpenBackbone | None, list[str]]:
    """The recipe with a backbone that will do, those to measure if there are several, and sentences for the screen.

    Without pretrained weights, or where the rules allow no candidate, the table of ResNets decides.

    Raises:
        UsageError: the rules allow no backbone, or the weights fit none.
    """
    if recipe.model.weights == "none":
        made, why = assemble.with_backbone(recipe, num_classes, images, device)
        return made, None, [why]
    found, told = candidates_at_hand(recipe, num_classes)
    if not found:
        made, why = assemble.with_backbone(recipe, num_classes, images, device)
        return made, None, [*told, why]
    first = with_candidate(recipe, by_reputation(found)[0])
    if len(found) == 1:
        only = f"model.backbone: auto is {found[0].backbone} ({found[0].told}), the only candidate; nothing to measure"
        return first, None, [*told, only]
    names = ", ".join(each.backbone for each in found)
    told.append(f"model.backbone: auto chooses from {counted(len(found), 'candidate')}: {names}")
    return first, OpenBackbone(recipe, tuple(found)), told


def with_candidate(recipe: Recipe, candidate: Candidate) -> Recipe:
    """The recipe with this backbone and its weights."""
    own = {"backbone": candidate.backbone, "weights": candidate.weights}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=own)})


def measured_backbone(
    opened: OpenBackbone, split: Split, paths: dict[str, Path], device: str, screen: Screen, seconds: float | None
) -> tuple[ResolvedRecipe, Mapping[str, Any] | None]:
    """The resolved recipe with the best candidate, measured on the training photos, and what was tried.

    `seconds` are left of the minutes.

    Raises:
        UsageError: no candidate could be measured, each with its reason.
    """
    chosen = world.choose_device(device)
    measuring = Measuring(opened.recipe, split, paths, chosen, seconds)
    measured = measuring.best_of(opened.candidates)
    if measured is None:
        raise UsageError("model.backbone: auto could measure no candidate:", *measuring.left_out)
    screen.say(measured.sentence())
    for sentence in measured.left_out:
        screen.say(f"model.backbone: not measured: {sentence}")
    resolved = assemble.resolved(with_candidate(opened.recipe, measured.best), chosen)
    assemble.demand_no_contradiction(resolved)
    return resolved, measured.to_dict()
