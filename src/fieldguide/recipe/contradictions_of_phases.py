"""Contradictions in phases, plans and the augmentations they name, and fields there that would be ignored."""

from typing import NamedTuple

from fieldguide.recipe.names import nearest
from fieldguide.recipe.schema import Recipe, Training
from fieldguide.settings import NONE, Phase

OF_A_PROBE = {"trainable": "head", "max_epochs": 1, "min_improvement": None, "patience_epochs": None}


class Contradiction(NamedTuple):
    """Fields that do not go together, and a sentence that names them and says what to do."""

    fields: tuple[str, ...]
    message: str


def of_phases(recipe: Recipe) -> list[Contradiction]:
    """Those in `training.phases`, in `training.rounds` and beside `training.plan`."""
    return [*_of_a_plan(recipe), *_of_probes(recipe), *_unknown_augmentations(recipe)]


def _of_a_plan(recipe: Recipe) -> list[Contradiction]:
    """A plan writes phases and rounds itself, with augmentations of its own choice."""
    training = recipe.training
    if training.plan != "auto":
        return []
    takes = ("standard",) if recipe.model.weights == "none" else ("none", "mild")
    found = [
        Contradiction(
            (f"training.{name}", "training.plan"),
            f"training.{name} would be ignored, because training.plan is auto and writes its own; "
            f"leave training.{name} out, or set training.plan to null",
        )
        for name in ("phases", "rounds", "max_epochs")
        if getattr(training, name) != Training.model_fields[name].get_default()
    ]
    return found + [
        Contradiction(
            (f"augmentation.policies.{name}", "training.plan"),
            f"augmentation.policies.{name} would be ignored, because training.plan is auto and uses only "
            f"{' and '.join(takes)}; leave it out, or set training.plan to null and name it in training.phases",
        )
        for name in recipe.augmentation.policies
        if name not in takes
    ]


def _of_probes(recipe: Recipe) -> list[Contradiction]:
    found, phases = [], recipe.training.phases
    for i, phase in enumerate(phases):
        where = f"training.phases.{i}"
        if phase.method == "probe":
            found += _of_a_probe(recipe, phase, where)
        elif phase.views is not None:
            found.append(
                Contradiction(
                    (f"{where}.views", f"{where}.method"),
                    f"{where}.views would be ignored, because {where}.method is gradient; set views to null, or method "
                    "to probe",
                )
            )
    if phases[-1].method == "probe" and len(phases) > 1:
        found.append(
            Contradiction(
                (f"training.phases.{len(phases) - 1}.method", "training.phases"),
                "training.phases: a probe at the end would replace the trained head; put it first",
            )
        )
    return found


def _of_a_probe(recipe: Recipe, phase: Phase, where: str) -> list[Contradiction]:
    found, model = [], recipe.model
    if model.head != "linear" or model.head_dropout:
        found.append(
            Contradiction(
                (f"{where}.method", "model.head"),
                f"{where}.method: a probe fits a linear head without dropout, but model.head is {model.head}"
                f"{f' with dropout {model.head_dropout:g}' if model.head_dropout else ''}; choose linear with "
                "head_dropout null, or method gradient",
            )
        )
    if (phase.views or 1) > 1 and recipe.augmentation.policy(phase.augmentation) == NONE:
        found.append(
            Contradiction(
                (f"{where}.views", f"{where}.augmentation"),
                f"{where}.views: {phase.views} views would be the same photo each time, because {where}.augmentation "
                f"{phase.augmentation} changes nothing; set views to null, or choose mild",
            )
        )
    return found + [
        Contradiction(
            (f"{where}.{name}", f"{where}.method"),
            f"{where}.{name} would be ignored, because {where}.method is probe; leave {name} out, or set method to "
            "gradient",
        )
        for name, own in OF_A_PROBE.items()
        if getattr(phase, name) not in (own, Phase.model_fields[name].get_default())
    ]


def _unknown_augmentations(recipe: Recipe) -> list[Contradiction]:
    named = {f"training.phases.{i}.augmentation": phase.augmentation for i, phase in enumerate(recipe.training.phases)}
    if recipe.training.rounds.augmentation is not None:
        named["training.rounds.augmentation"] = recipe.training.rounds.augmentation
    known = recipe.augmentation.known()
    return [
        Contradiction(
            (field, f"augmentation.policies.{value}"),
            f"{field}: no augmentation {value!r}{nearest(value, known)}; "
            f"choose from {', '.join(known)}, or define it in augmentation.policies",
        )
        for field, value in named.items()
        if value not in known
    ]
