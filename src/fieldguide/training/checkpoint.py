"""The state of a training, as tensors and plain data, and back. Nothing saved is ever run as code.

No random state is saved: a photo's random numbers depend on (seed, epoch, name) alone and dropout's on (seed, epoch,
step), so no generator carries over from step to step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.training.ends import NotFinite, Reason
from fieldguide.training.plan import Ended, More, Plan, Stage, next_stage
from fieldguide.training.state import Best, Epoch, Halved, Running, Scores, Soup, State
from fieldguide.training.under_way import UnderWay

Tensors = dict[str, torch.Tensor]
CANDIDATE = "soup"  # prefix of its tensors' names
MOST_TOLD = 300  # characters shown of what is wrong


@dataclass(frozen=True)
class Snapshot:
    """A training between two steps."""

    # `model.NAME`, `best.NAME` (left out if the model is the best), `optimizer.PLACE.NAME`, `average.NAME` with a
    # moving average, and `soup.EPOCH.NAME` of candidates that are not the best
    tensors: Tensors
    plain: dict[str, Any]  # everything else, ready for JSON


def capture(model: nn.Module, state: State, under_way: UnderWay) -> Snapshot:
    """The training's state between two steps; raises NotFinite if a weight is not, so resuming would fail."""
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    if state.best is not None and not _is_best(model, state, under_way):
        tensors |= {f"best.{name}": value for name, value in state.best.weights.items()}
    for candidate in state.candidates:
        if candidate is not state.best:
            prefix = f"{CANDIDATE}.{candidate.epoch.epoch}"
            tensors |= {f"{prefix}.{name}": value for name, value in candidate.weights.items()}
    for place, memory in under_way.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value for name, value in memory.items() if value is not None}
    if under_way.average is not None:
        tensors |= {f"average.{name}": value for name, value in under_way.average.weights.items()}
    _demand_finite(tensors, len(state.history) + 1, under_way.running.steps)
    running = asdict(under_way.running) | {"seconds": under_way.running.elapsed()}
    del running["began"]
    lowest = under_way.convergence.lowest
    plain = {
        "epochs": under_way.epochs,
        "improved": under_way.improved,
        "rates": [group["lr"] for group in under_way.optimizer.param_groups],
        "schedule": under_way.schedule.memory(),
        "convergence": {"lowest": lowest if math.isfinite(lowest) else None, "waited": under_way.convergence.waited},
        "running": running,
        "replanned": under_way.stage.replanned,
    }
    if under_way.average is not None:
        plain["average_steps"] = under_way.average.steps
    return Snapshot(tensors, {"state": plain_state(state), "under_way": plain})


def _is_best(model: nn.Module, state: State, under_way: UnderWay) -> bool:
    """Whether the network holds the best model, as it does right after the best epoch.

    With folded batch normalisation it holds other tensors than the saved model; with an average, other values.
    """
    if state.best is None or under_way.average is not None or list(state.best.weights) != list(model.state_dict()):
        return False
    is_between = under_way.running.steps == 0 and under_way.running.images == 0  # a probe has photos and no steps
    return is_between and bool(state.history) and state.history[-1].best


def _demand_finite(tensors: Mapping[str, torch.Tensor], epoch: int, steps: int) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NotFinite(f"weight {name}", epoch, steps)


def plain_state(state: State) -> dict[str, Any]:
    """A state without its weights, ready for JSON."""
    plain = {
        "history": [asdict(epoch) for epoch in state.history],
        "ended": [[ended.epochs, ended.improved, str(ended.reason), ended.stage.replanned] for ended in state.ended],
        "best_epoch": state.best.epoch.epoch if state.best else None,
        "more": [[more.after_stages, more.epochs] for more in state.more],
        "halved": [[halved.epoch, halved.step, halved.photos] for halved in state.halved],
        "out_of_time": state.out_of_time,
    }
    if state.candidates:
        plain["candidates"] = [_plain_best(candidate) for candidate in state.candidates]
    if state.best is not None and state.best.soup:
        plain["best_soup"] = _plain_best(state.best)
    if state.scaling is not None:
        plain |= {"scaling": state.scaling, "skipped": [list(entry) for entry in state.skipped]}
    return plain if state.soup is None else plain | {"soup": asdict(state.soup)}


def _plain_best(best: Best) -> dict[str, Any]:
    return {"epoch": best.epoch.epoch, "validation": asdict(best.epoch.validation), "soup": list(best.soup)}


def state_of(
    plain: Mapping[str, Any],
    plan: Plan,
    best_weights: Tensors | None,
    candidates: Mapping[int, Tensors] = MappingProxyType({}),
) -> State:
    """The state that `plain_state` described; the weights are from `best_weights_of` and `candidates_of`.

    Raises:
        UsageError: it is damaged, or belongs to another plan.
    """
    try:
        state = State(more=[More(int(after), int(epochs)) for after, epochs in plain["more"]])
        for epochs, improved, reason, *replanned in plain["ended"]:
            stage = next_stage(plan, state.ended, state.more)
            if stage is None:
                raise ValueError("more stages ended than there are")
            stage = _planned_again(stage, *replanned)
            state.ended.append(Ended(stage, int(epochs), bool(improved), Reason(reason)))
        state.halved += [Halved(int(epoch), int(step), int(photos)) for epoch, step, photos in plain.get("halved", [])]
        state.out_of_time = bool(plain.get("out_of_time", False))
        if (scaling := plain.get("scaling")) is not None:
            state.scaling = {name: float(scaling[name]) for name in ("scale", "steps")}
            state.skipped = [(int(epoch), int(steps)) for epoch, steps in plain.get("skipped", ())]
        if any(halved.photos < 1 for halved in state.halved):
            raise ValueError("a micro-batch of no photos")
        state.history += [_epoch(entry) for entry in plain["history"]]
        if plan.metric != "accuracy" and any(not epoch.validation.class_images for epoch in state.history):
            raise ValueError("an epoch has no counts by class")
        if plain["best_epoch"] is not None:
            if best_weights is None or not 1 <= plain["best_epoch"] <= len(state.history):
                raise ValueError("the best model is missing")
            state.best = Best(state.history[plain["best_epoch"] - 1], best_weights)
            if "best_soup" in plain:
                state.best = _best(state.history, best_weights, **plain["best_soup"])
        if any(best_weights is None or own.keys() != best_weights.keys() for own in candidates.values()):
            raise ValueError("a candidate belongs to another network")
        for entry in plain.get("candidates", []):
            is_best = state.best is not None and entry["epoch"] == state.best.epoch.epoch
            own = state.best if is_best else _best(state.history, candidates[entry["epoch"]], **entry)
            assert own is not None
            state.candidates.append(own)
        state.soup = _soup(**plain["soup"]) if "soup" in plain else None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise UsageError(f"the saved state is damaged ({_told(error)})") from None
    return state


def _planned_again(stage: Stage, replanned: Any = ()) -> Stage:
    """Earlier versions planned once."""
    pairs = tuple((float(after), float(epochs)) for after, epochs in replanned)
    return stage if pairs == stage.replanned else Stage.model_validate({**dict(stage), "replanned": pairs})


def _best(history: Sequence[Epoch], weights: Tensors, epoch: Any, validation: Any, soup: Any) -> Best:
    if not 1 <= epoch <= len(history):
        raise ValueError("a model belongs to no epoch")
    own = replace(history[epoch - 1], validation=_scores(**validation))
    return Best(own, weights, tuple(int(number) for number in soup))


def _soup(candidates: Any, epochs: Any, before: Any, after: Any, is_kept: Any) -> Soup:
    everyone, chosen = (tuple(int(number) for number in several) for several in (candidates, epochs))
    return Soup(everyone, chosen, _scores(**before), _scores(**after), bool(is_kept))


def _epoch(entry: Mapping[str, Any]) -> Epoch:
    training, validation = _scores(**entry["training"]), _scores(**entry["validation"])
    epoch = Epoch(**{**entry, "training": training, "validation": validation})
    numbers = (epoch.epoch, epoch.stage_number, epoch.learning_rate, epoch.seconds, epoch.images_per_second)
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise ValueError("an epoch's figure is not a number")
    if not (isinstance(epoch.kind, str) and isinstance(epoch.stage, str) and isinstance(epoch.best, bool)):
        raise ValueError("an epoch's stage is invalid")
    return epoch


def _scores(images: Any, loss_sum: Any, correct: Any, class_images: Any = (), class_correct: Any = ()) -> Scores:
    """Earlier versions saved no counts by class."""
    of_class = (tuple(int(count) for count in counts) for counts in (class_images, class_correct))
    made = Scores(int(images), float(loss_sum), int(correct), *of_class)
    if made.images < 1 or not math.isfinite(made.loss_sum):
        raise ValueError("figures without photos")
    pairs = list(zip(made.class_images, made.class_correct, strict=True))
    if any(not 0 <= right <= photos for photos, right in pairs) or (pairs and sum(made.class_images) != made.images):
        raise ValueError("counts by class do not add up")
    return made


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:MOST_TOLD]}"


def best_weights_of(snapshot: Snapshot) -> Tensors | None:
    """A CPU copy of the best weights; None before the first epoch ended."""
    if snapshot.plain["state"].get("best_epoch") is None:
        return None
    own = part_of(snapshot.tensors, "best.") or part_of(snapshot.tensors, "model.")
    return {name: value.clone() for name, value in own.items()}


def candidates_of(snapshot: Snapshot) -> dict[int, Tensors]:
    """A CPU copy of each candidate's weights by its epoch, without the best one; raises UsageError for odd names."""
    found: dict[int, Tensors] = {}
    for name, value in part_of(snapshot.tensors, f"{CANDIDATE}.").items():
        epoch, _, own = name.partition(".")
        if not epoch.isdecimal():
            raise UsageError(f"the saved state is damaged (it has a tensor {name[:MOST_TOLD]!r})")
        found.setdefault(int(epoch), {})[own] = value.clone()
    return found


def part_of(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names start with a prefix, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore(snapshot: Snapshot, model: nn.Module, under_way: UnderWay) -> None:
    """Restores a network and a newly made stage to what `capture` saved; raises UsageError if they do not fit."""
    try:
        plain = snapshot.plain["under_way"]
        model.load_state_dict(part_of(snapshot.tensors, "model."))
        _restore_optimizer(under_way.optimizer, part_of(snapshot.tensors, "optimizer."), plain["rates"])
        under_way.schedule.restore(plain["schedule"])
        lowest = plain["convergence"]["lowest"]
        under_way.convergence.lowest = math.inf if lowest is None else float(lowest)
        under_way.convergence.waited = int(plain["convergence"]["waited"])
        under_way.epochs, under_way.improved = int(plain["epochs"]), bool(plain["improved"])
        under_way.running = _running(**plain["running"])
        under_way.take(_planned_again(under_way.stage, plain.get("replanned", ())))
        if under_way.average is not None:
            under_way.average.restore(part_of(snapshot.tensors, "average."), int(plain["average_steps"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise UsageError(f"the saved state does not fit this training ({_told(error)})") from None


def _running(steps: Any, images: Any, loss_sum: Any, correct: Any, learning_rate: Any, seconds: Any) -> Running:
    made = Running(int(steps), int(images), float(loss_sum), int(correct), float(learning_rate), float(seconds))
    if made.steps < 0 or made.images < 0 or not math.isfinite(made.seconds):
        raise ValueError("an epoch has a negative number of steps")
    return made


def _restore_optimizer(optimizer: torch.optim.Optimizer, memory: Tensors, rates: Sequence[float]) -> None:
    made = optimizer.state_dict()
    for group, rate in zip(made["param_groups"], rates, strict=True):
        group["lr"] = float(rate)
    of_place: dict[int, Tensors] = {}
    for key, value in memory.items():
        place, _, name = key.partition(".")
        of_place.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": of_place, "param_groups": made["param_groups"]})
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, torch.Tensor) and value.shape not in ((), parameter.shape):
                raise ValueError(f"the optimiser's {name} has the shape {tuple(value.shape)}")
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # the parameter's memory format (channels last) keeps the order of sums
                own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
