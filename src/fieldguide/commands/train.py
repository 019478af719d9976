"""`fieldguide train`: a folder of photos to a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fieldguide import assemble, world
from fieldguide.commands.cross_validate import cross_validate, demand_no_validation_folder
from fieldguide.commands.display import Screen, TrainingDisplay, duration
from fieldguide.commands.evaluate import judge_photos
from fieldguide.commands.interrupts import EXIT_CODES, Interrupts
from fieldguide.data.duplicates import find_duplicates
from fieldguide.data.facts import look_at
from fieldguide.data.groups import groups_by_pattern, problem_with_pattern
from fieldguide.data.inspect import Inspected, inspect
from fieldguide.data.scan import PhotoFolder, problem_with_folder, scan, summary
from fieldguide.data.split import Split, make_split, write_split
from fieldguide.deploy.predictor import Predictor, load_predictor
from fieldguide.errors import Interrupted, PhotosError, TrainingError, UsageError, counted, listing
from fieldguide.model.bundle import write_bundle
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipe.load import read_draft, to_yaml
from fieldguide.recipe.resolve import VALIDATION_SHARE
from fieldguide.recipe.schema import Recipe
from fieldguide.report.figures import draw_curves
from fieldguide.run_folder import RunFolder
from fieldguide.storage import problem_with_output_folder, write_json, write_text
from fieldguide.training.loop import train as train_loop
from fieldguide.training.plan import Ended, Stage
from fieldguide.training.state import Epoch, State


@dataclass(frozen=True)
class Run:
    """A training that ended.

    Attributes:
        path: the run's folder.
        result: what stands in its `result.json`.
    """

    path: Path
    result: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0; 130 or 143 where a signal ended it; 1 where the loss was not finite."""
        stopped = self.result["stopped"]
        return 0 if not stopped else next((c for name, c in EXIT_CODES.items() if stopped.endswith(name)), 1)

    def load(self, device: str = "auto") -> Predictor:
        """The trained classifier."""
        return load_predictor(self.path, device)


@dataclass(frozen=True)
class Prepared:
    """Photos that were looked at and put into parts.

    Attributes:
        folder: what lies where.
        split: which photo is in which part.
        remarks: sentences that a person should read.
        groups: names of files that belong into one part.
    """

    folder: PhotoFolder
    split: Split
    remarks: tuple[str, ...]
    groups: tuple[Sequence[str], ...] = ()


def train(
    photos: str | Path,
    recipe: str | Path = DEFAULT_RECIPE,
    output: str | Path = "runs/run",
    *,
    overrides: Sequence[str] = (),
    weights: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Run:
    """Trains a classifier on a folder of photos.

    Args:
        photos: holds `train/CLASS/*` with or without `val/` and `test/`, or `CLASS/*` directly.
        recipe: a preset's name or a YAML file.
        output: the run's folder, which must not exist yet. With `split.folds`, it holds a run a fold.
        overrides: `field.name=value` each, as the command line's `--set`.
        weights: short for `model.weights`: `hub`, `none`, a file, or an earlier run.
        device: `auto`, `cpu` or `cuda:N`.
        quiet: show nothing.

    Returns:
        The run. A signal (SIGINT, SIGTERM) ends the training after the step and keeps the best model so far.

    Raises:
        UsageError: wrong recipe, paths or weights, all mistakes in one message.
        Interrupted: a signal came before the first epoch ended; nothing is left behind.
        PhotosError: photos that stand in the way, each with its reason.
        TrainingError: the loss was not finite before the first epoch ended.
    """
    screen = Screen(quiet=quiet)
    root, run = Path(photos), RunFolder(Path(output))
    name, chosen = demand_request(root, recipe, overrides, weights, device, [run])
    prepared = prepare(root, chosen, screen)
    if chosen.split.folds is None:
        return run_trial(name, chosen, prepared, run, device, screen)

    def train_fold(split: Split, fold: RunFolder, remarks: Sequence[str]) -> dict[str, Any]:
        of_fold = Prepared(prepared.folder, split, tuple(remarks))
        return run_trial(name, chosen, of_fold, fold, device, screen).result

    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    result = cross_validate(
        name, chosen, prepared.split, paths, prepared.remarks, run, device, screen, train_fold, prepared.groups
    )
    return Run(run.path, result)


def demand_request(
    root: Path,
    recipe: str | Path,
    overrides: Sequence[str],
    weights: str | Path | None,
    device: str,
    outputs: Sequence[RunFolder],
) -> tuple[str, Recipe]:
    """Checks all that can be wrong with a request before any photo is read.

    Returns:
        The recipe's name and the resolved recipe.

    Raises:
        UsageError: every mistake, a line each.
    """
    draft = read_draft(recipe, overrides, None if weights is None else str(weights))
    problems = [*draft.problems, *assemble.problems_with_model(draft.recipe)]
    for problem in (problem_with_folder(root), *(_problem_with_output(run) for run in outputs), _problem_with(device)):
        problems += [problem] if problem else []
    pattern = draft.recipe.split.group_pattern
    if pattern is not None and (problem := problem_with_pattern(pattern)):
        problems.append(problem)
    if problems:
        raise UsageError(*problems)
    return draft.name, assemble.resolved(draft.recipe)


def _problem_with_output(run: RunFolder) -> str | None:
    problem = run.problem_with_making()
    if problem is None and (problem := problem_with_output_folder(run.path)):
        problem = f"-o {problem}"
    return problem


def _problem_with(device: str) -> str | None:
    try:
        world.choose_device(device)
    except UsageError as error:
        return str(error)
    return None


def prepare(root: Path, recipe: Recipe, screen: Screen) -> Prepared:
    """Finds, reads and splits the photos.

    Raises:
        PhotosError: an empty class, unreadable photos that the recipe does not exclude, a leak, too few photos.
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
        demand_no_validation_folder(folder)
    inspected, groups = _look_at_photos(folder, recipe, screen)
    remarks = _deal_with_unreadable(inspected, recipe.data.unreadable)
    split, more = make_split(
        inspected,
        seed=recipe.training.seed,
        validation_share=recipe.split.validation_share or VALIDATION_SHARE,  # folds are dealt anew from all
        has_validation=folder.has_validation,
        leaks=recipe.data.leaks,
        groups=groups,
    )
    for remark in (*remarks, *more):
        screen.warn(remark)
    return Prepared(folder, split, (*folder.remarks, *remarks, *more), tuple(groups))


def _look_at_photos(folder: PhotoFolder, recipe: Recipe, screen: Screen) -> tuple[list[Inspected], list[list[str]]]:
    """Reads every photo once; where validation has to be set apart, near duplicates are looked for as well.

    Returns:
        What was found of each photo, and files that belong into one part.
    """
    most, pattern = recipe.data.max_megapixels, recipe.split.group_pattern
    groups = groups_by_pattern([photo.file for photo in folder.photos], pattern) if pattern else []
    if folder.has_validation:
        with screen.counting("reading photos", len(folder.photos)) as advance:
            return inspect(folder.photos, most, advance=advance), groups
    with screen.counting("reading photos", len(folder.photos)) as advance:
        facts = look_at(folder.part("train"), most, advance)
        others = [photo for photo in folder.photos if photo.part != "train"]
        inspected = [Inspected(f.photo, f.content_hash, f.reason, f.width, f.height) for f in facts]
        inspected += inspect(others, most, advance=advance)
    screen.say("looking for near duplicates, so that none stands in training and in validation")
    duplicates = find_duplicates(facts)
    for chain in duplicates.look_alikes:
        screen.warn(
            f"{counted(len(chain), 'photo')} of {chain[0].class_name} look alike in a chain, too many to keep in one "
            f"part; first {chain[0].file}. Frames of a burst? Then set split.group_pattern"
        )
    return inspected, [*groups, *duplicates.file_groups]


def _deal_with_unreadable(inspected: Sequence[Inspected], unreadable: str) -> list[str]:
    broken = [
        f"{entry.photo.file} {entry.reason}" for entry in inspected if entry.reason and entry.photo.part != "test"
    ]
    if not broken:
        return []
    if unreadable == "refuse":
        raise PhotosError(
            f"{counted(len(broken), 'photo')} cannot be read:\n{listing(broken)}\n"
            "Mend or remove them, or add --set data.unreadable=exclude to train without them"
        )
    return [f"{counted(len(broken), 'photo')} excluded, unreadable:\n{listing(broken)}"]


def run_trial(
    name: str,
    recipe: Recipe,
    prepared: Prepared,
    run: RunFolder,
    device: str,
    screen: Screen,
    workers: int | None = None,
) -> Run:
    """One training from recipe, split and folder to a result; no state is shared between two of them.

    Args:
        name: the recipe's.
        recipe: resolved.
        prepared: photos and split.
        run: where to; made here.
        device: as the user named it.
        screen: where to show it.
        workers: processes that load photos; None: chosen by the machine.

    Raises:
        UsageError: a rule is broken, or the weights do not fit; nothing was written.
        TrainingError: the loss was not finite before an epoch ended.
    """
    chosen_device, split = world.choose_device(device), prepared.split
    rules = assemble.hold_against_rules(recipe, len(split.classes))
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    assembled = assemble.assemble(recipe, split, paths, chosen_device, workers)
    _announce(name, recipe, assembled, rules, chosen_device, split, screen)
    run.make()
    write_text(
        run.recipe, to_yaml(recipe, f"fieldguide train PHOTOS --recipe recipe.yaml -o RUN\nResolved from {name}")
    )
    write_json(run.environment, world.describe_machine(chosen_device))
    write_split(run.split, split)
    state = _train(assembled, run, recipe.training.seed, split, screen)
    result = _result(name, recipe, assembled, rules, prepared, state, run, device)
    run.write_result(result)
    draw_curves(run)
    _report(run, result, screen)
    return Run(run.path, result)


def _announce(
    name: str,
    recipe: Recipe,
    assembled: assemble.Assembled,
    rules: dict[str, Any],
    device: torch.device,
    split: Split,
    screen: Screen,
) -> None:
    counts = assembled.parameters
    screen.say(
        f"recipe {name}: {recipe.model.backbone} with {recipe.model.head} head, {counts['total']:,} parameters "
        f"({counts['backbone']:,} + {counts['head']:,}), {recipe.training.optimizer}, on {device}"
    )
    screen.say(assembled.weights.sentence())
    screen.say(
        f"training on {len(split.part('train')):,} photos, validation on {len(split.part('val')):,}, "
        f"{len(split.classes):,} classes"
    )
    for sentence in rules["unverified"]:
        screen.warn(sentence)


class _Recorder(TrainingDisplay):
    """Shows the training, and writes each epoch and each better model as soon as it is there."""

    def __init__(self, screen: Screen, assembled: assemble.Assembled, run: RunFolder, images_per_epoch: int) -> None:
        super().__init__(screen, assembled.plan.most_epochs(), images_per_epoch)
        self.assembled = assembled
        self.run = run

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """Writes, then shows."""
        if epoch.best and state.best is not None:
            write_bundle(self.run.bundle, self.assembled.description, state.best.weights)
        self.run.add_to_history(epoch.to_dict())
        super().epoch_done(epoch, state)


def _train(assembled: assemble.Assembled, run: RunFolder, seed: int, split: Split, screen: Screen) -> State:
    """Trains; where not even one epoch was finished, the run's folder goes again and the reason is raised."""
    recorder = _Recorder(screen, assembled, run, len(split.part("train")))
    with Interrupts() as interrupts, world.repeatable(seed), recorder.running():
        try:
            state = train_loop(assembled.model, assembled.plan, assembled.tools, recorder, interrupts.reason)
        except BaseException:
            run.remove_without_model()
            raise
    if state.best is None:
        run.remove_without_model()
        if interrupts.received:
            raise Interrupted(interrupts.received, f"{state.stopped} before the first epoch ended: no model to keep")
        raise TrainingError(state.stopped)
    if state.stopped:
        screen.warn(f"{state.stopped}; the best model so far, of epoch {state.best.epoch.epoch}, is kept")
    return state


def _result(
    name: str,
    recipe: Recipe,
    assembled: assemble.Assembled,
    rules: dict[str, Any],
    prepared: Prepared,
    state: State,
    run: RunFolder,
    device: str,
) -> dict[str, Any]:
    assert state.best is not None
    best, history, split = state.best.epoch, state.history, prepared.split
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    judged = judge_photos(load_predictor(run.path, device), split.part("val"), paths)
    images = sum(epoch.training.images for epoch in history)
    return {
        "recipe": name,
        "backbone": recipe.model.backbone,
        "optimizer": recipe.training.optimizer,
        "execution": recipe.execution,
        "seed": recipe.training.seed,
        "num_classes": len(split.classes),
        "parameters": assembled.parameters,
        "rules": rules,
        "weights": assembled.weights.to_dict(),
        "training": best.training.to_dict(),
        "validation": {key: value for key, value in judged.items() if key not in ("per_class", "confused_pairs")}
        | {"chose": f"epoch {best.epoch} of {len(history)}, by {recipe.training.best_by}"},
        "test": None,
        "test_evaluations": 0,
        "epochs": len(history),
        "best_epoch": best.epoch,
        "stages": [_stage(ended) for ended in state.ended],
        "stopped": state.stopped,
        "seconds": sum(epoch.seconds for epoch in history),
        "images_per_second": images / sum(e.training.images / e.images_per_second for e in history),
        "split": {
            "fingerprint": split.fingerprint(),
            **{part: len(split.part(part)) for part in ("train", "val", "test", "excluded")},
        },
        "remarks": list(prepared.remarks),
    }


def _stage(ended: Ended) -> dict[str, Any]:
    stage: Stage = ended.stage
    return {
        "kind": stage.kind,
        "name": stage.name,
        "learning_rate": stage.learning_rate,
        "epochs": ended.epochs,
        "improved": ended.improved,
        "reason": ended.reason,
    }


def _report(run: RunFolder, result: dict[str, Any], screen: Screen) -> None:
    validation = result["validation"]
    screen.say(
        f"validation accuracy {validation['accuracy']:.4f} "
        f"(95 %: {validation['accuracy_low']:.4f} to {validation['accuracy_high']:.4f}, n = {validation['images']:,}; "
        f"chosen on these photos: {validation['chose']}, so it is optimistic)",
        style="bold",
    )
    screen.say(
        f"{result['epochs']} epochs in {duration(result['seconds'])}, {result['images_per_second']:.0f} images/s; "
        f"run: {run.path}, curves: {run.figures / 'curves.png'}"
    )
