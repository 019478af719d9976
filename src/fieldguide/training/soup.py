"""Greedy soup: the mean of the best epochs' weights, as far as each of them makes it no worse on validation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from fieldguide.training.state import Best, Epoch, Scores, Soup, State

Weights = dict[str, torch.Tensor]
IsBetter = Callable[[Scores, Scores], bool]


def take_candidate(state: State, epoch: Epoch, weights: Callable[[], Weights], most: int, is_better: IsBetter) -> None:
    """Keeps an epoch's model if it is among the best, and as the best one if it is that.

    Args:
        state: its `candidates` are at most `most` models, the best first, of equals the earlier one; where there are
            none yet, a best model of before is the first.
        epoch: that just ended.
        weights: gives a copy of them on the CPU; called only where they are kept.
        most: so many are kept, each as large as the network.
        is_better: whether the first figures are better than the second.
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


def greedy_soup(
    candidates: Sequence[Best], evaluate: Callable[[Weights], Scores | None], is_better: IsBetter
) -> tuple[Soup, Weights] | None:
    """Wortsman et al. 2022 (arXiv 2203.05482), section 2, recipe 1.

    From the best candidate on, each one in turn joins the mean if validation gets no worse by it. Statistics of batch
    normalisation are averaged like weights, and nothing is recomputed; counters are the best candidate's. What is
    evaluated is what would be kept, so that a mean whose statistics do not fit its weights loses.

    Args:
        candidates: the best first, at least one; the soup holds the mean and one attempt besides them.
        evaluate: weights to validation figures; None: it was told to stop.
        is_better: whether the first figures are better than the second.

    Returns:
        What was done, and the weights; None where it was told to stop. The figures of the best one alone are measured
        again, for within a training they may be of a network whose batch normalisation is folded.
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
    """At the end of a training: the soup of its candidates takes the best one's place, if it is better.

    Args:
        state: afterwards without candidates, and with what was done; as it was where `evaluate` was told to stop.
        evaluate, is_better: as of `greedy_soup`.
    """
    made = greedy_soup(state.candidates, evaluate, is_better)
    if made is None:
        return
    state.soup, weights = made
    if state.soup.is_kept:
        epoch = replace(state.candidates[0].epoch, validation=state.soup.after)
        state.best = Best(epoch, weights, state.soup.epochs)
    state.candidates = []


def _with_one_more(mean: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], count: int) -> Weights:
    """The mean of `count` models and one more."""
    return {
        name: torch.lerp(value, weights[name], 1 / (count + 1)) if value.is_floating_point() else value
        for name, value in mean.items()
    }
