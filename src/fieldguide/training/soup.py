"""Greedy soup: the mean of the best epochs' weights; an epoch joins if validation gets no worse."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from fieldguide.training.plan import Plan
from fieldguide.training.state import Best, Epoch, Scores, Soup, State

Weights = dict[str, torch.Tensor]
IsBetter = Callable[[Scores, Scores], bool]  # whether the first figures are better than the second


def keep(state: State, epoch: Epoch, weights: Callable[[], Weights], plan: Plan, is_better: IsBetter) -> None:
    """Keeps an epoch's model if it is the best, or a candidate for the plan's soup; `weights` returns a CPU copy."""
    if plan.soup_candidates:
        take_candidate(state, epoch, weights, plan.soup_candidates, is_better)
    elif plan.averages_with_probe:
        _take_beside_probe(state, epoch, weights, is_better)
    elif epoch.best:
        state.best = Best(epoch, weights())


def take_candidate(state: State, epoch: Epoch, weights: Callable[[], Weights], most: int, is_better: IsBetter) -> None:
    """Keeps an epoch's model if it is among the `most` best.

    The candidates are best first, the earlier one first on a tie; an earlier best model is the first candidate.
    `weights` returns a CPU copy, called only if they are kept.
    """
    before = state.candidates or [best for best in [state.best] if best is not None]
    place = sum(not is_better(epoch.validation, other.epoch.validation) for other in before)
    if place >= most:
        return
    # contiguous, so that saving them makes no further copies
    made = Best(epoch, {name: value.contiguous() for name, value in weights().items()})
    state.candidates = [*before[:place], made, *before[place:]][:most]
    if epoch.best:
        state.best = made


def _take_beside_probe(state: State, epoch: Epoch, weights: Callable[[], Weights], is_better: IsBetter) -> None:
    """Keeps the model of the first epoch, the probe's, and the best one after it, also if the probe is better.

    The better one is first. A training that goes on after its soup has no probe any more, and keeps the best alone.
    """
    probe = [one for one in state.candidates if one.epoch.epoch == 1]
    after = [one for one in state.candidates if one.epoch.epoch > 1]
    has_probe = bool(probe) or epoch.epoch == 1
    is_candidate = has_probe and not any(not is_better(epoch.validation, one.epoch.validation) for one in after)
    if not (is_candidate or epoch.best):
        return
    made = Best(epoch, {name: value.contiguous() for name, value in weights().items()})
    if epoch.best:
        state.best = made
    if is_candidate:
        state.candidates = [made, *probe] if epoch.best else [*probe, made]


def can_make_soup(state: State, plan: Plan) -> bool:
    """Whether enough candidates were kept and nobody stopped the training."""
    return len(state.candidates) > int(plan.averages_with_probe) and not state.stopped


def greedy_soup(
    candidates: Sequence[Best], evaluate: Callable[[Weights], Scores | None], is_better: IsBetter
) -> tuple[Soup, Weights] | None:
    """Wortsman et al. 2022 (arXiv 2203.05482), section 2, recipe 1; None if told to stop.

    Starting with the best, each candidate joins the mean if validation gets no worse. Batch normalisation statistics
    are averaged like weights, not recomputed; counters are the best candidate's. The mean is evaluated as it would be
    kept, so a mean whose statistics do not fit its weights loses. The best candidate is evaluated again, because during
    training its batch normalisation may have been folded.

    Args:
        candidates: best first, at least one; in memory there are also the mean and one attempt.
        evaluate: weights to validation figures; None: told to stop.
    """
    best, *others = candidates
    soup, epochs = best.weights, [best.epoch.epoch]
    before = evaluate(soup)
    if before is None:
        return None
    now = before
    for candidate in others:
        attempt = _with_one_more(soup, candidate.weights, len(epochs))
        figures = evaluate(attempt)
        if figures is None:
            return None
        if math.isfinite(figures.loss) and not is_better(now, figures):
            soup, now = attempt, figures
            epochs.append(candidate.epoch.epoch)
    everyone = tuple(candidate.epoch.epoch for candidate in candidates)
    return Soup(everyone, tuple(epochs), before, now, is_better(now, before)), soup


def make_soup(state: State, evaluate: Callable[[Weights], Scores | None], is_better: IsBetter) -> None:
    """Makes the soup at the end of a training; it replaces the best model if it is better."""
    made = greedy_soup(state.candidates, evaluate, is_better)
    if made is None:  # told to stop: the candidates stay
        return
    state.soup, weights = made
    if state.soup.is_kept:
        epoch = replace(state.candidates[0].epoch, validation=state.soup.after)
        state.best = Best(epoch, weights, state.soup.epochs)
    state.candidates = []


def _with_one_more(mean: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], count: int) -> Weights:
    """The mean of `count` models, extended by one more."""
    return {
        name: torch.lerp(value, weights[name], 1 / (count + 1)) if value.is_floating_point() else value
        for name, value in mean.items()
    }
