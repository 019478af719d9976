"""Contradictions in phases, plans and the augmentations they name, and fields there that would be ignored."""

from collections.abc import Iterator
from typing import NamedTuple

from fieldguide.recipe.names import nearest
from fieldguide.recipe.schema import Recipe, Training
from fieldguide.settings import NONE, Phase, Rounds

OF_A_PROBE = {"trainable": "head", "max_epochs": 1, "min_improvement": None, "patience_epochs": None}


class Contradiction(NamedTuple):
    """Fields that do not go together, and a sentence that names them and says what to do."""

    fields: tuple[str, ...]
    message: str


def of_phases(recipe: Recipe) -> Iterator[Contradiction]:
    """Those in `training.phases`, in `training.rounds` and beside `training.plan`."""
    if recipe.training.plan == "auto":
        yield from _of_a_plan(recipe)
    yield from _of_probes(recipe)
    yield from _unknown_augmentations(recipe)


def _of_a_plan(recipe: Recipe) -> Iterator[Contradiction]:
    """A plan writes phases and rounds itself, with augmentations of its own choice; how many may be bounded."""
    bounded = recipe.training.rounds.model_copy(update={"max_rounds": Rounds().max_rounds})
    written = {"phases": recipe.training.phases, "rounds": bounded}
    for name, value in written.items():
        if value != Training.model_fields[name].get_default():
            yield Contradiction(
                (f"training.{name}", "training.plan"),
                f"training.{name} would be ignored, because training.plan is auto and writes its own; leave "
                f"training.{name} out, or set training.plan to null",
            )
    takes = ("standard",) if recipe.model.weights == "none" else ("none", "mild", "gentle")
    for name in recipe.augmentation.policies:
        if name not in takes:
            yield Contradiction(
                (f"augmentation.policies.{name}", "training.plan"),
                f"augmentation.policies.{name} would be ignored, because training.plan is auto and uses only "
                f"{' and '.join(takes)}; leave it out, or set training.plan to null and name it in training.phases",
            )


def _of_probes(recipe: Recipe) -> Iterator[Contradiction]:
    phases = recipe.training.phases
    for i, phase in enumerate(phases):
        where = f"training.phases.{i}"
        if phase.method == "probe":
            yield from _of_a_probe(recipe, phase, where)
        elif phase.views is not None:
            yield Contradiction(
                (f"{where}.views", f"{where}.method"),
                f"{where}.views would be ignored, because {where}.method is gradient; set views to null, or method "
                "to probe",
            )
    if phases[-1].method == "probe" and len(phases) > 1:
        yield Contradiction(
            (f"training.phases.{len(phases) - 1}.method", "training.phases"),
            "training.phases: a probe at the end would replace the trained head; put it first",
        )


def _of_a_probe(recipe: Recipe, phase: Phase, where: str) -> Iterator[Contradiction]:
    model = recipe.model
    if model.head != "linear" or model.head_dropout:
        yield Contradiction(
            (f"{where}.method", "model.head"),
            f"{where}.method: a probe fits a linear head without dropout, but model.head is {model.head}"
            f"{f' with dropout {model.head_dropout:g}' if model.head_dropout else ''}; choose linear with head_dropout "
            "null, or method gradient",
        )
    if (phase.views or 1) > 1 and recipe.augmentation.policy(phase.augmentation) == NONE:
        yield Contradiction(
            (f"{where}.views", f"{where}.augmentation"),
            f"{where}.views: {phase.views} views would be the same photo each time, because {where}.augmentation "
            f"{phase.augmentation} changes nothing; set views to null, or choose mild",
        )
    for name, own in OF_A_PROBE.items():
        if dict(phase)[name] not in (own, Phase.model_fields[name].get_default()):
            yield Contradiction(
                (f"{where}.{name}", f"{where}.method"),
                f"{where}.{name} would be ignored, because {where}.method is probe; leave {name} out, or set method to "
                "gradient",
            )


def _unknown_augmentations(recipe: Recipe) -> Iterator[Contradiction]:
    training, known = recipe.training, recipe.augmentation.known()
    named = {f"training.phases.{i}.augmentation": phase.augmentation for i, phase in enumerate(training.phases)}
    for field, value in {**named, "training.rounds.augmentation": training.rounds.augmentation}.items():
        if value is not None and value not in known:
            yield Contradiction(
                (field, f"augmentation.policies.{value}"),
                f"{field}: no augmentation {value!r}{nearest(value, known)}; choose from {', '.join(known)}, or define "
                "it in augmentation.policies",
            )
