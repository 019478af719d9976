"""`fieldguide train`: a folder of photos to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fieldguide import assemble, world
from fieldguide.commands.cross_validate import cross_validate
from fieldguide.commands.display import Screen, TrainingDisplay, duration
from fieldguide.commands.interrupts import EXIT_CODES, Interrupts
from fieldguide.commands.judging import calibration_sentence, judge_photos, macro_sentence
from fieldguide.commands.keep import keep_for_report
from fieldguide.commands.prepare import Prepared, demand_request, prepare
from fieldguide.commands.report import report as write_report
from fieldguide.data.split import Split, write_split
from fieldguide.deploy.predictor import Predictor, load_predictor
from fieldguide.errors import Interrupted, TrainingError
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.predictions import read_predictions, write_predictions
from fieldguide.model.bundle import write_bundle, write_temperature
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipe.load import to_yaml
from fieldguide.recipe.schema import Recipe
from fieldguide.report.figures import draw_curves
from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_json, write_text
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
        of_fold = replace(prepared, split=split, remarks=tuple(remarks))
        return run_trial(name, chosen, of_fold, fold, device, screen).result

    result = cross_validate(name, chosen, prepared.split, prepared.remarks, run, screen, train_fold, prepared.groups)
    return Run(run.path, result)


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
    with screen.counting("caching photos", len(split.part("train"))) as advance:
        assembled = assemble.assemble(recipe, split, paths, chosen_device, workers, advance)
    _announce(name, recipe, assembled, rules, chosen_device, split, screen)
    run.make()
    write_text(
        run.recipe, to_yaml(recipe, f"fieldguide train PHOTOS --recipe recipe.yaml -o RUN\nResolved from {name}")
    )
    write_json(run.environment, world.describe_machine(chosen_device))
    write_split(run.split, split)
    write_json(run.check, prepared.check)
    state = _train(assembled, run, recipe.training.seed, split, screen)
    judged = _judge(run, split, paths, device)
    result = _result(name, recipe, assembled, rules, prepared, state, judged)
    run.write_result(result)
    draw_curves(run)
    screen.say("drawing the report")
    keep_for_report(run, read_predictions(run.predictions), paths, device)
    write_report(run.path)
    for sentence in assembled.feed.remarks_after():
        screen.warn(sentence)
    screen.say(assembled.feed.waiting.sentence())
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
    for sentence in (*rules["unverified"], *assembled.feed.remarks):
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
    elif waiting := [stage.label for stage in assembled.plan.phases[len(state.ended) :]]:
        screen.warn(f"training.max_epochs was used up before {', '.join(waiting)} could begin")
    return state


def _judge(run: RunFolder, split: Split, paths: Mapping[str, Path], device: str) -> dict[str, Any]:
    """Judges the bundle that was written on the validation photos, keeps its predictions and fits its temperature."""
    judged = judge_photos(load_predictor(run.path, device), split.part("val"), paths)
    write_predictions(run.predictions, judged.predictions)
    calibration = calibration_summary(judged.predictions.logits, judged.predictions.labels)
    write_temperature(
        run.bundle, calibration["temperature"], calibration["fitted_on_n"], calibration["temperature_note"]
    )
    figures = {key: value for key, value in judged.figures().items() if key not in ("per_class", "confused_pairs")}
    return {"validation": figures, "calibration": calibration}


def _result(
    name: str,
    recipe: Recipe,
    assembled: assemble.Assembled,
    rules: dict[str, Any],
    prepared: Prepared,
    state: State,
    judged: dict[str, Any],
) -> dict[str, Any]:
    assert state.best is not None
    best, history, split = state.best.epoch, state.history, prepared.split
    chose = f"epoch {best.epoch} of {len(history)}, by {recipe.training.best_by}"
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
        "validation": judged["validation"] | {"chose": chose},
        "calibration": judged["calibration"],
        "test": None,
        "test_evaluations": 0,
        "epochs": len(history),
        "best_epoch": best.epoch,
        "stages": [_stage(ended) for ended in state.ended],
        "stopped": state.stopped,
        "seconds": sum(epoch.seconds for epoch in history),
        "images_per_second": images / sum(e.training.images / e.images_per_second for e in history),
        "waited_for_data": assembled.feed.waiting.share,
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
        f"chosen on these photos: {validation['chose']}, so it is optimistic), {macro_sentence(validation)}",
        style="bold",
    )
    screen.say(calibration_sentence(result["calibration"]))
    screen.say(
        f"{result['epochs']} epochs in {duration(result['seconds'])}, {result['images_per_second']:.0f} images/s; "
        f"run: {run.path}, report: {run.report}"
    )
