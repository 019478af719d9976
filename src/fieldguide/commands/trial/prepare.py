"""What comes before a training: the request is checked, then the photos are looked at and put into parts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fieldguide import assemble, world
from fieldguide.commands.judging.seen import Seen, demand_no_fold_was_seen, seen_by_weights
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.facts import Facts
from fieldguide.data.look.files import problem_with_folder
from fieldguide.data.look.groups import groups_by_pattern, problem_with_pattern
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.look_over import CheckReport, look_over
from fieldguide.data.look.scan import PhotoFolder, scan, summary
from fieldguide.data.split.partition import Split, make_split
from fieldguide.errors import PhotosError, UsageError, counted, listing
from fieldguide.model.weights import problem_with_weights
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.resolve import VALIDATION_SHARE
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.storage import problem_with_output_folder


@dataclass(frozen=True)
class Prepared:
    """Photos that were looked at and put into parts.

    Attributes:
        folder: what lies where.
        split: which photo is in which part.
        remarks: sentences that a person should read.
        groups: names of files that belong into one part.
        check: what `fieldguide check` found, as plain data.
        short_side_px: half of the photos have at least this shorter side; None where they were not looked at.
        seen: what the first weights were trained on.
    """

    folder: PhotoFolder
    split: Split
    remarks: tuple[str, ...]
    groups: tuple[Sequence[str], ...]
    check: dict[str, Any]
    short_side_px: int | None = None
    seen: Seen = field(default_factory=Seen)


def demand_request(
    root: Path,
    recipe: str | Path,
    overrides: Sequence[str],
    weights: str | Path | None,
    device: str,
    outputs: Sequence[RunFolder],
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[str, Recipe]:
    """Checks all that can be wrong with a request before any photo is read; a backbone that is `auto` is chosen here.

    Args:
        root: the photos.
        recipe, overrides, weights, device: as of `train`.
        outputs: the folders of the runs.
        tell: takes a sentence about the backbone that was chosen.

    Returns:
        The recipe's name and the resolved recipe.

    Raises:
        UsageError: every mistake, a line each.
    """
    draft = read_draft(recipe, overrides, None if weights is None else str(weights))
    chosen_device, wrong_device = _device(device)
    made = draft.recipe
    if made.model.backbone == AUTO and not draft.problems and not problem_with_folder(root):
        counts = Counter(photo.class_name for photo in scan(root).photos if photo.part == "train")
        made, why = assemble.with_backbone(made, len(counts), counts.total(), chosen_device)
        tell(why)
    problems = [*draft.problems, *_problems_with_model(made)]
    if draft.recipe.training.more_epochs is not None:
        problems.append(
            "training.more_epochs: is for a run that is finished: fieldguide train --resume RUN "
            "--set training.more_epochs=10; leave it out here, or raise the phases' max_epochs"
        )
    problems += assemble.problems_with_machine(made, chosen_device)
    found = [problem_with_folder(root), wrong_device]
    found += [_problem_with_output(run) or _problem_with_place(root, run) for run in outputs]
    problems += [problem for problem in found if problem]
    pattern = draft.recipe.split.group_pattern
    if pattern is not None and (problem := problem_with_pattern(pattern)):
        problems.append(problem)
    if problems:
        raise UsageError(*problems)
    made = assemble.resolved(made, chosen_device)
    assemble.demand_no_contradiction(made)
    return draft.name, made


def _problems_with_model(recipe: Recipe) -> list[str]:
    """A backbone that is still `auto` was not chosen because of other mistakes, and is none itself."""
    if recipe.model.backbone != AUTO:
        return assemble.problems_with_model(recipe)
    problem = problem_with_weights(recipe.model.weights)
    return [] if problem is None else [problem]


def _problem_with_output(run: RunFolder) -> str | None:
    problem = run.problem_with_making()
    if problem is None and (problem := problem_with_output_folder(run.path)):
        problem = f"-o {problem}"
    return problem


def _problem_with_place(root: Path, run: RunFolder) -> str | None:
    """Without train/, every folder of the photos is a class: also one with runs in it, at the next training."""
    inside = run.path.resolve().is_relative_to(root.resolve())
    if inside and root.is_dir() and not any(entry.name.lower() == "train" for entry in root.iterdir()):
        return f"-o {run.path}: lies inside the photos, where it would become a class; choose a folder outside {root}"
    return None


def _device(name: str) -> tuple[torch.device, str | None]:
    """The device of that name; the CPU, and what is wrong, where there is none."""
    try:
        return world.choose_device(name), None
    except UsageError as error:
        return assemble.CPU, str(error)


def prepare(root: Path, recipe: Recipe, screen: Screen, weights: Sequence[str] = ()) -> Prepared:
    """Finds, reads, checks and splits the photos.

    Args:
        root: the photos.
        recipe: resolved.
        screen: where to show it.
        weights: that trainings on this split start from, beside the recipe's.

    Raises:
        PhotosError: an empty class, unreadable photos that the recipe does not exclude, a leak, too few photos.
        UsageError: the weights are a run whose split is damaged.
    """
    folder = scan(root)
    screen.say(f"{root}: {summary(folder)}")
    for remark in folder.remarks:
        screen.warn(remark)
    if folder.empty_classes:
        raise PhotosError(
            f"{root}: classes without any photo: {', '.join(folder.empty_classes)}; add photos or remove the folders"
        )
    if recipe.split.folds is not None:
        _demand_no_validation_folder(folder)
    seen = seen_by_weights([recipe.model.weights, *weights])
    facts, checked = look_over(folder, recipe.data.max_megapixels, screen.counting)
    hash_of = {entry.photo.file: entry.content_hash for entry in facts}
    in_folds = [] if recipe.split.folds is None else demand_no_fold_was_seen(seen, hash_of, recipe.data.leaks)
    remarks = [
        *_of_no_use_here(folder, recipe),
        *seen.remarks,
        *in_folds,
        *_deal_with_unreadable(facts, recipe.data.unreadable),
        *_told_by_check(checked),
    ]
    named = _groups_by_name(folder, recipe.split.group_pattern, screen)
    groups = [*checked.groups, *named]
    assert recipe.split.seed is not None, "the recipe is not resolved"
    split, more = make_split(
        [Inspected(f.photo, f.content_hash, f.reason, f.width, f.height) for f in facts],
        seed=recipe.split.seed,
        validation_share=recipe.split.validation_share or VALIDATION_SHARE,  # folds are dealt anew from all
        has_validation=folder.has_validation,
        leaks=recipe.data.leaks,
        groups=groups,
        torn=checked.torn,
        seen=seen.by if recipe.split.folds is None else {},
    )
    for remark in (*remarks, *more):
        screen.warn(remark)
    sides = sorted(min(f.width, f.height) for f in facts if f.width)
    return Prepared(
        folder,
        split,
        (*folder.remarks, *remarks, *more),
        tuple(groups),
        checked.plain(),
        sides[len(sides) // 2] if sides else None,
        seen,
    )


def _demand_no_validation_folder(folder: PhotoFolder) -> None:
    """Folds hold out photos of their own; whether photos of `val/` may be trained on is not for us to decide."""
    if folder.has_validation:
        raise PhotosError(
            f"{folder.root}: split.folds makes validation photos of its own, but there is a val/ folder; move val/ "
            "away (or its photos into train/, where they shall be trained on), or leave split.folds out"
        )


def _of_no_use_here(folder: PhotoFolder, recipe: Recipe) -> list[str]:
    """Settings of the split other than the defaults, where the folder has validation photos of its own.

    A run's recipe has every field, so whether somebody set one to its default is not known; nor would it matter.
    """
    split, default = recipe.split, {"validation_share": VALIDATION_SHARE, "seed": recipe.training.seed}
    moot = [f"split.{name} {value}" for name in default if (value := getattr(split, name)) != default[name]]
    if not folder.has_validation or not moot:
        return []
    return [f"{' and '.join(moot)} decide{'' if moot[1:] else 's'} nothing here: the photos of val/ are validation"]


def _deal_with_unreadable(facts: Sequence[Facts], unreadable: str) -> list[str]:
    """Sentences about photos that cannot be read; those of test stop nothing, for nothing is trained on them."""
    failed = [entry for entry in facts if entry.reason]
    broken = [f"{entry.photo.file} {entry.reason}" for entry in failed if entry.photo.part != "test"]
    tested = [f"{entry.photo.file} {entry.reason}" for entry in failed if entry.photo.part == "test"]
    if broken and unreadable == "refuse":
        raise PhotosError(
            f"{counted(len(broken), 'photo')} cannot be read:\n{listing(broken)}\n"
            "Mend or remove them, or add --set data.unreadable=exclude to train without them"
        )
    told = [f"{counted(len(broken), 'photo')} excluded, unreadable:\n{listing(broken)}"] if broken else []
    if tested:
        told.append(f"{counted(len(tested), 'test photo')} cannot be read, in no figure of test:\n{listing(tested)}")
    return told


def _groups_by_name(folder: PhotoFolder, pattern: str | None, screen: Screen) -> list[list[str]]:
    """The groups of the pattern; one that joins no photos is a mistake, since it would protect nothing."""
    if pattern is None:
        return []
    groups = groups_by_pattern([photo.file for photo in folder.photos], pattern)
    if not groups:
        first = folder.photos[0].path.name
        raise UsageError(
            f"split.group_pattern {pattern!r}: no two photos share a group by it; "
            f"it is searched in names such as {first}"
        )
    joined = sum(map(len, groups))
    screen.say(f"split.group_pattern keeps {counted(joined, 'photo')} together in {counted(len(groups), 'group')}")
    return groups


def _told_by_check(checked: CheckReport) -> list[str]:
    """What it found that a training does not refuse, and that makes a figure wrong."""
    labels = [finding.message for finding in checked.findings if finding.kind.endswith("_two_labels")]
    tested = [
        finding.message
        for finding in checked.findings
        if finding.kind.endswith("_across_parts") and {"val", "test"} <= set(finding.part.split(", "))
    ]
    found = []
    if labels:
        times = counted(len(labels), "time")
        found.append(f"the same photo, or nearly, under two labels, of which one is wrong, {times}:\n{listing(labels)}")
    if tested:
        found.append(
            f"the same photo, or nearly, in val and in test, {counted(len(tested), 'time')}: it chooses the epoch and "
            f"is tested on, so the test accuracy is too high:\n{listing(tested)}"
        )
    return found + _chains(checked)


def _chains(checked: CheckReport) -> list[str]:
    """Look-alikes that are too many to be kept in one part."""
    return [
        f"{finding.message}: too many to keep in one part; if they are frames of a burst, set split.group_pattern"
        for finding in checked.findings
        if finding.kind == "look_alikes"
    ]
