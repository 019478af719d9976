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
from fieldguide.commands.trial.told_groups import groups_as_told
from fieldguide.data.look.facts import Facts
from fieldguide.data.look.find import find_photos, problem_with_source
from fieldguide.data.look.findings import ACROSS_PARTS, TWO_LABELS, Finding, Kind, Remark, Topic
from fieldguide.data.look.groups import problem_with_pattern
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.listed_rules import listed_problems
from fieldguide.data.look.look_over import CheckReport, look_over
from fieldguide.data.look.scan import PhotoFolder, summary
from fieldguide.data.look.source import Source
from fieldguide.data.look.value_range import Measured, clipped, decide, measure, sentences
from fieldguide.data.read.contents import MOST_KEPT_BYTES, Contents
from fieldguide.data.read.formats import missing_decoders
from fieldguide.data.read.reading import ValueRange
from fieldguide.data.split.make import make_split
from fieldguide.data.split.partition import Split
from fieldguide.errors import PhotosError, UsageError, counted, listing
from fieldguide.model.weights import problem_with_weights
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.overrides import Overrides
from fieldguide.recipe.resolve import VALIDATION_SHARE
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.storage import problem_with_output_folder


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
        return world.choose_device(name), None
    except UsageError as error:
        return assemble.CPU, str(error)


def prepare(
    photos: Source | Path,
    recipe: ResolvedRecipe,
    screen: Screen,
    weights: Sequence[str] = (),
    seconds_left: Callable[[], float] | None = None,
) -> Prepared:
    """Finds, reads, checks and splits the photos.

    `weights` are others that trainings on this split start from; `seconds_left` of the command bound the time to look
    for near duplicates, which is told (None: no limit).

    Raises PhotosError for an empty class, unreadable photos that the recipe does not exclude, a leak or too few photos;
    UsageError if the weights are a run whose split is damaged.
    """
    folder, of_table = _scanned(Source.of(photos, recipe.data.class_folder), recipe, screen)
    assemble.demand_before_photos(recipe, len(folder.classes), len(folder.part("train")))
    seen = seen_by_weights([recipe.model.weights, *weights])
    contents = _room_for_contents(recipe)
    in_time = InTime(screen, seconds_left)
    reading = assemble.reading_of(recipe.data)
    facts, checked = look_over(folder, reading, in_time.counting, contents, in_time.is_late)
    hash_of = {entry.photo.file: entry.content_hash for entry in facts}
    measured = measure(facts)
    chosen = decide(recipe.data.value_range, measured)
    in_folds = [] if recipe.split.folds is None else demand_no_fold_was_seen(seen, hash_of, recipe.data.leaks)
    remarks = [
        *of_table,
        *_moot_settings(folder, recipe),
        *seen.remarks,
        *in_folds,
        *_deal_with_unreadable(facts, recipe.data.unreadable),
        *_told_by_check(checked),
        *in_time.remarks(folder.root),
        *_told_by_values(facts, chosen),
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


def _room_for_contents(recipe: Recipe) -> Contents:
    """Only a fast training decodes photos of every part right after the look."""
    if recipe.execution != "fast" or recipe.data.cache_side_px == 0:
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


def _moot_settings(folder: PhotoFolder, recipe: Recipe) -> list[Remark]:
    """Split settings other than the defaults that do nothing, because the folder has validation photos.

    A run's recipe has every field, so a field that was set to its default looks like one that was not set.
    """
    share, seed = recipe.split.validation_share, recipe.split.seed
    moot = [f"split.validation_share {share}"] if share != VALIDATION_SHARE else []
    moot += [f"split.seed {seed}"] if seed != recipe.training.seed else []
    if not folder.has_validation or not moot:
        return []
    words = f"{' and '.join(moot)} {'have' if moot[1:] else 'has'} no effect: the photos of val/ are the validation"
    return [Remark(Topic.MOOT_SETTINGS, words, tuple(moot))]


def _deal_with_unreadable(facts: Sequence[Facts], unreadable: str) -> list[Remark]:
    """Remarks on unreadable photos; test photos never stop a training, because it does not need them."""
    failed = [entry for entry in facts if entry.reason]
    broken = {entry.photo.file: entry.reason for entry in failed if entry.photo.part != "test"}
    tested = {entry.photo.file: entry.reason for entry in failed if entry.photo.part == "test"}
    if broken and unreadable == "refuse":
        raise PhotosError(
            f"{counted(len(broken), 'photo')} cannot be read:\n{_reasons(broken)}\n"
            "Remove them, or train without them: --set data.unreadable=exclude"
        )
    told = []
    for files, what, fate in ((broken, "photo", "excluded"), (tested, "test photo", "not counted")):
        if files:
            words = f"{counted(len(files), what)} unreadable; {fate}:\n{_reasons(files)}"
            told.append(Remark(Topic.UNREADABLE, words, tuple(files)))
    return told


def _reasons(files: Mapping[str, str]) -> str:
    return listing([f"{file} {reason}" for file, reason in files.items()])


def _told_by_check(checked: CheckReport) -> list[Remark]:
    """Findings that make a figure wrong but do not stop a training."""
    labels = [finding for finding in checked.findings if finding.kind in TWO_LABELS]
    tested = [one for one in checked.findings if one.kind in ACROSS_PARTS and {"val", "test"} <= set(one.parts)]
    found = []
    if labels:
        photos = "1 photo has" if len(labels) == 1 else f"{len(labels):,} photos have"
        found.append(_listed(Topic.TWO_LABELS, f"{photos} two labels; one must be wrong", labels))
    if tested:
        photos = "1 photo is" if len(tested) == 1 else f"{len(tested):,} photos are"
        words = f"{photos} in val and in test. val chooses the epoch, so test accuracy may be too high"
        found.append(_listed(Topic.ACROSS_PARTS, words, tested))
    mixed = [finding for finding in checked.findings if finding.kind is Kind.VALUE_RANGES]
    found += [Remark(Topic.CLIPPED, finding.message, finding.files) for finding in mixed]
    end = "too many to keep in one part. If they are frames of a burst, set split.group_pattern"
    chains = [finding for finding in checked.findings if finding.kind is Kind.LOOK_ALIKES]
    return found + [Remark(Topic.LOOK_ALIKES, f"{chain.message}; {end}", chain.files) for chain in chains]


def _told_by_values(facts: Sequence[Facts], chosen: ValueRange) -> list[Remark]:
    """Photos whose values are clipped."""
    files = [entry.photo.file for entry in clipped(facts, chosen)]
    if not files:
        return []
    words = f"{counted(len(files), 'photo')} with values outside data.value_range, which are clipped:\n{listing(files)}"
    return [Remark(Topic.CLIPPED, words, tuple(files))]


def _listed(topic: Topic, words: str, findings: Sequence[Finding]) -> Remark:
    lines = listing([finding.message for finding in findings])
    return Remark(topic, f"{words}:\n{lines}", tuple(file for finding in findings for file in finding.files))
