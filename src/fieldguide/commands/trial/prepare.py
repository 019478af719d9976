"""What comes before a training: the request is checked, then the photos are checked and put into parts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fieldguide import assemble, world
from fieldguide.commands.judging.seen import Seen, demand_no_fold_was_seen, seen_by_weights
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.choose_backbone import OpenBackbone, first_backbone
from fieldguide.commands.trial.in_time import InTime
from fieldguide.commands.trial.remarks import about_findings, about_moot_settings, about_unreadable, about_values
from fieldguide.commands.trial.told_groups import groups_as_told
from fieldguide.data.look.find import find_photos, problem_with_source
from fieldguide.data.look.findings import Remark
from fieldguide.data.look.groups import problem_with_pattern
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.listed_rules import listed_problems
from fieldguide.data.look.look_over import look_over
from fieldguide.data.look.scan import PhotoFolder, summary
from fieldguide.data.look.source import Source
from fieldguide.data.look.value_range import Measured, decide, measure, sentences
from fieldguide.data.read.contents import MOST_KEPT_BYTES, Contents
from fieldguide.data.read.formats import missing_decoders
from fieldguide.data.split.make import make_split
from fieldguide.data.split.partition import Split
from fieldguide.errors import PhotosError, UsageError
from fieldguide.model.weights import problem_with_weights
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.overrides import Overrides
from fieldguide.recipe.resolve import VALIDATION_SHARE
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.storage import problem_with_output_folder
from fieldguide.world.processes import problem_with_device


@dataclass(frozen=True)
class Prepared:
    """Photos that were checked and put into parts.

    `groups` are names of files that belong in one part; `check` is what `fieldguide check` found, as plain data;
    `short_side_px` is the median of the photos' shorter sides (None: not read); `seen` is what the first weights were
    trained on.
    """

    folder: PhotoFolder
    split: Split
    remarks: tuple[Remark, ...]
    groups: tuple[Sequence[str], ...]
    check: dict[str, Any]
    short_side_px: int | None = None
    seen: Seen = field(default_factory=Seen)
    contents: Contents = field(default_factory=Contents)
    measured: Measured = field(default_factory=Measured)
    backbones: Mapping[str, Any] | None = None  # what `model.backbone: auto` measured; see assemble.measuring

    @property
    def sentences(self) -> tuple[str, ...]:
        """The remarks in words."""
        return tuple(remark.sentence for remark in self.remarks)


def demand_request(
    photos: Source | Path,
    recipe: str | Path | Recipe,
    overrides: Overrides,
    weights: str | Path | None,
    device: str,
    outputs: Sequence[RunFolder],
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[str, ResolvedRecipe, OpenBackbone | None]:
    """Checks everything in a request before any photo is read, and chooses the backbone if it is `auto`.

    `outputs` are the folders of the runs; `tell` takes a sentence about the chosen backbone. Returns the recipe's name,
    the resolved recipe, and the backbones that are still to be measured, if there are several; raises UsageError with
    all mistakes.
    """
    draft = read_draft(recipe, overrides, None if weights is None else str(weights))
    chosen_device, wrong_device = _device(device)
    made, opened = draft.recipe, None
    source = Source.of(photos, made.data.class_folder)
    wrong_photos = problem_with_source(source)
    if made.model.backbone == AUTO and not draft.problems and not wrong_photos:
        counts = Counter(photo.class_name for photo in find_photos(source, tell).photos if photo.part == "train")
        made, opened, told = first_backbone(made, len(counts), counts.total(), chosen_device)
        for sentence in told:
            tell(sentence)
    problems = [*draft.problems, *_problems_with_model(made)]
    if draft.recipe.training.more_epochs is not None:
        problems.append(
            "training.more_epochs: is for a finished run: fieldguide train --resume RUN --set training.more_epochs=10; "
            "leave it out here, or raise max_epochs of the phases"
        )
    problems += assemble.problems_with_machine(made, chosen_device)
    found = [wrong_photos, wrong_device]
    found += [_problem_with_output(run) or _problem_with_place(source.path, run) for run in outputs]
    if draft.recipe.split.group_pattern is not None:
        found.append(problem_with_pattern(draft.recipe.split.group_pattern))
    problems += [problem for problem in found if problem]
    if problems:
        raise UsageError(*problems)
    resolved = assemble.resolved(made, chosen_device)
    assemble.demand_no_contradiction(resolved)
    return draft.name, resolved, opened


def _problems_with_model(recipe: Recipe) -> list[str]:
    """Problems with the model; a backbone that is still `auto` is none, because other mistakes kept it open."""
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
    """Without train/, every folder of the photos is a class; a run in it would become one at the next training."""
    inside = run.path.resolve().is_relative_to(root.resolve())
    if inside and root.is_dir() and not any(entry.name.lower() == "train" for entry in root.iterdir()):
        return f"-o {run.path}: is inside the photos, where it would become a class; choose a folder outside {root}"
    return None


def _device(name: str) -> tuple[torch.device, str | None]:
    """The device of that name; if there is none, the CPU and the problem."""
    try:
        device = world.choose_device(name)
    except UsageError as error:
        return assemble.CPU, str(error)
    return device, problem_with_device(device)


def prepare(
    photos: Source | Path,
    recipe: ResolvedRecipe,
    screen: Screen,
    weights: Sequence[str] = (),
    seconds_left: Callable[[], float] | None = None,
    beside: Mapping[str, ResolvedRecipe] | None = None,
) -> Prepared:
    """Finds, reads, checks and splits the photos.

    `weights` are others that trainings on this split start from, and `beside` their recipes, by name. `seconds_left` of
    the command bound the time to look for near duplicates, which is told (None: no limit).

    Raises PhotosError for an empty class, unreadable photos that the recipe does not exclude, a leak or too few photos;
    UsageError if the weights are a run whose split is damaged.
    """
    folder, of_table = _scanned(Source.of(photos, recipe.data.class_folder), recipe, screen)
    _demand_before_photos(recipe, beside or {}, folder)
    seen = seen_by_weights([recipe.model.weights, *weights])
    contents = _room_for_contents(recipe)
    in_time = InTime(screen, seconds_left, needs_near_duplicates=recipe.data.leaks == "drop")
    reading = assemble.reading_of(recipe.data)
    facts, checked = look_over(folder, reading, in_time.counting, contents, in_time.is_late, in_time.hurries)
    hash_of = {entry.photo.file: entry.content_hash for entry in facts}
    measured = measure(facts)
    chosen = decide(recipe.data.value_range, measured)
    in_folds = [] if recipe.split.folds is None else demand_no_fold_was_seen(seen, hash_of, recipe.data.leaks)
    remarks = [
        *of_table,
        *about_moot_settings(folder, recipe),
        *seen.remarks,
        *in_folds,
        *about_unreadable(facts, recipe.data.unreadable),
        *about_findings(checked),
        *in_time.remarks(folder.root),
        *about_values(facts, chosen),
    ]
    for sentence in sentences(recipe.data.value_range, measured, chosen):
        screen.say(sentence)
    groups = [*checked.groups, *groups_as_told(folder, recipe, screen)]
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
        screen.warn(remark.sentence)
    sides = sorted(min(f.width, f.height) for f in facts if f.width)
    side = sides[len(sides) // 2] if sides else None
    told = (*folder.remarks, *remarks, *more)
    return Prepared(folder, split, told, tuple(groups), checked.plain(), side, seen, contents, measured)


def _demand_before_photos(recipe: ResolvedRecipe, beside: Mapping[str, ResolvedRecipe], folder: PhotoFolder) -> None:
    """Raises UsageError with what is wrong before any photo is read: of the recipe, or of each by its name."""
    problems = []
    for name, own in (beside or {"": recipe}).items():
        try:
            assemble.demand_before_photos(own, len(folder.classes), len(folder.part("train")))
        except UsageError as error:
            problems += [f"{name}: {problem}" if name else problem for problem in error.problems]
    if problems:
        raise UsageError(*problems)


def _room_for_contents(recipe: Recipe) -> Contents:
    """Only a fast training decodes photos of every part right after the look."""
    if recipe.execution != "fast":
        return Contents()
    free = world.available_bytes(assemble.CPU)
    return Contents(min(MOST_KEPT_BYTES, (free or 0) // 8))


def _scanned(source: Source, recipe: Recipe, screen: Screen) -> tuple[PhotoFolder, list[Remark]]:
    """The photos, shown, and remarks on a table; refused if a class is empty, or if `split.folds` meets a val/."""
    folder, root = find_photos(source, screen.say), source.path
    screen.say(f"{root}: {summary(folder)}")
    for sentence in (*folder.sentences, *missing_decoders(photo.file for photo in folder.photos)):
        screen.warn(sentence)
    rules = recipe.data
    problems, remarks = listed_problems(folder, rules.missing, rules.unlabelled, rules.two_labels)
    if problems:
        raise PhotosError(*problems)
    if folder.empty_classes:
        raise PhotosError(
            f"{root}: classes without any photo: {', '.join(folder.empty_classes)}; add photos or remove the folders"
        )
    if recipe.split.folds is not None and folder.has_validation:
        raise PhotosError(
            f"{root}: split.folds makes its own validation photos, but there is a val/ folder; move val/ away, move "
            "its photos into train/, or leave split.folds out"
        )
    return folder, remarks
