"""The end of a search: the winner with fresh seeds beside `auto`, judged by photos that chose nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.cluster.jobs import Share
from fieldguide.cluster.ray_search import Tried
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.commands.trials import Shared, Trial, finish_here
from fieldguide.commands.trials_elsewhere import finish_elsewhere
from fieldguide.data.split.partition import Row
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import SIGNAL_EXIT_CODES, Interrupted, TrainingError, counted, duration
from fieldguide.evaluation.intervals import paired_difference, spread
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import to_yaml
from fieldguide.recipe.space import Space, has_choice
from fieldguide.storage import write_json, write_text

RESULT_FILE, WINNER_FILE = "result.json", "winner.yaml"
AUTO = "auto"


@dataclass(frozen=True)
class Ended:
    """What a search found.

    Attributes:
        path: the folder, with `result.json`, `winner.yaml` (a recipe for `train`) and the runs.
        values: the winner's, by field.
        chose: its accuracy on the photos that chose it; too high, because it was chosen by them.
        judged: accuracies of the winner's runs with fresh seeds on the photos that judge.
        auto: that of `auto`.
        difference: of the winner's mean to `auto`, with its 95 % interval.
        sentence: whether it beats `auto`.
        exit_code: 0.
    """

    path: Path
    values: dict[str, Any]
    chose: float
    judged: tuple[float, ...]
    auto: float
    difference: tuple[float, float, float]
    sentence: str
    exit_code: int = 0

    def __repr__(self) -> str:
        return f"Ended({self.path}, {self.sentence})"


def ended(
    winner: Tried,
    recipe: ResolvedRecipe,
    prepared: Prepared,
    judging: Sequence[Row],
    folder: Path,
    shared: Shared,
    screen: Screen,
    *,
    seconds: float,
    minutes: float,
    seeds: int,
    auto: ResolvedRecipe,
    on: str | None,
    share: Share,
) -> Ended:
    """Trains the winner and `auto`, judges both, and writes and says what came out; `seconds` are the search's."""
    assert winner.accuracy is not None
    write_text(folder / WINNER_FILE, to_yaml(recipe))
    trials = {AUTO: Trial(AUTO, auto)}
    for seed in range(recipe.training.seed + 1, recipe.training.seed + 1 + seeds):
        training = recipe.training.model_copy(update={"seed": seed})
        trials[f"winner-seed{seed}"] = Trial("winner", recipe.model_copy(update={"training": training}))
    if on is None:
        finished = finish_here(trials, folder, shared)
    else:
        finished = finish_elsewhere(trials, folder, shared, on, share, screen)
    if finished.failed:
        raise TrainingError("; ".join(f"{name}: {why}" for name, why in finished.failed.items()))
    if finished.exit_code:
        name = next((name for name, code in SIGNAL_EXIT_CODES.items() if code == finished.exit_code), None)
        how = "go on with: fieldguide search (the same arguments) --resume"
        raise TrainingError(f"a training stopped; {how}") if name is None else Interrupted(name, f"interrupted; {how}")
    right = dict[str, npt.NDArray[np.bool_]]()
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    for name, run in finished.runs.items():
        predictions = load_predictor(run.path, shared.device).predict([paths[row.file] for row in judging])
        right[name] = np.array([each.label == row.class_name for each, row in zip(predictions, judging, strict=True)])
    of_auto = right.pop(AUTO)
    of_winner = np.stack(list(right.values()))  # (seeds, photos)
    found = _compared(of_winner, of_auto)
    judged = tuple(float(share) for share in of_winner.mean(1))
    took = {name: float(run.result["seconds"]) for name, run in finished.runs.items()}
    of_trainings = sum(took.values()) - took[AUTO]
    sentence = _sentence(found, minutes, (seconds + of_trainings) / 60)
    chose = f"{100 * winner.accuracy:.1f} % on the photos that chose it"
    mean, photos = float(np.mean(judged)), counted(len(judging), "photo")
    screen.say(f"the winner: {chose}; {100 * mean:.1f} % on {photos} that chose nothing ({counted(seeds, 'seed')})")
    screen.say(f"auto: {100 * of_auto.mean():.1f} % on these. {sentence}")
    of_seeds = f"{duration(of_trainings)} for {counted(seeds, 'training')} of the winner"
    screen.say(f"time: {duration(seconds)} of search and {of_seeds}; {duration(took[AUTO])} for auto")
    screen.say(f"its recipe: fieldguide train PHOTOS --recipe {folder / WINNER_FILE} -o RUN")
    told = Ended(folder, dict(winner.values), winner.accuracy, judged, float(of_auto.mean()), found, sentence)
    plain = {key: value for key, value in vars(told).items() if key not in ("path", "exit_code")}
    times = {"minutes": minutes, "seconds_of_search": seconds, "seconds_of_trainings": took}
    write_json(folder / RESULT_FILE, plain | {"photos_that_judge": len(judging), **times})
    return told


def about_trials(winner: Tried, tried: Sequence[Tried], fields: Space) -> str:
    """What won, with the values of the fields that had several."""
    assert winner.accuracy is not None
    chosen = (field for field in fields if has_choice({field: fields[field]}))
    values = ", ".join(f"{field} {_plainly(winner.values[field])}" for field in chosen)
    ended = f"{counted(len(tried), 'trial')}, the best is {winner.name} with {100 * winner.accuracy:.1f} %"
    return f"{ended}: {values}\nnow auto, and the winner with fresh seeds"


def _plainly(value: Any) -> str:
    """A value of a field, a rate with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _compared(winner: npt.NDArray[np.bool_], auto: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """The difference of accuracies and its 95 % interval, Student's t over photos, each the mean of the seeds.

    Args:
        winner: (seeds, photos) whether it was right.
        auto: (photos,).
    """
    differences = winner.mean(0) - auto  # (photos,)
    mean = float(differences.mean())
    if not differences.std():  # no photo tells them apart
        count = len(differences)
        return mean, *paired_difference(max(mean, 0) * count, max(-mean, 0) * count, count)
    found = spread(differences.tolist())
    assert found.low is not None and found.high is not None, "they differ, so there are two or more"
    return mean, found.low, found.high


def _sentence(found: tuple[float, float, float], minutes: float, took: float) -> str:
    """`took` is in minutes: those of the search and of the winner's trainings, which are not cut off."""
    mean, low, high = found
    by = f"{100 * mean:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    what = "beats" if low > 0 else "is worse than" if high < 0 else "is not shown to beat"
    if took <= minutes:
        return f"The winner {what} auto in the same {minutes:g} minutes: {by}"
    return f"The winner {what} auto: {by}; search and trainings took {took:.1f} minutes, auto got {minutes:g}"
