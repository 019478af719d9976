"""Judges a network on the validation photos that choose the epoch; each counts once, whichever process judges it."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fieldguide.data.batch import order
from fieldguide.data.read.decode import photo_of
from fieldguide.data.read.inputs import KeptInputs
from fieldguide.data.read.photo_pixels import ToJudge
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import FieldguideError, PhotosError
from fieldguide.recipe.lives import SettledRecipe
from fieldguide.training.state import Scores
from fieldguide.training.step import Precision
from fieldguide.world.processes import FINE, NOT_FINE, Team

MORE_WITHOUT_GRADIENTS = 4  # times the photos of a step, since nothing is kept for a backward pass
Take = Callable[[torch.Tensor, torch.Tensor], None]  # (photos, classes) float32 logits, (photos,) int64 labels
Judge = Callable[[Take], None]  # gives it batch after batch


def make_evaluation(
    recipe: SettledRecipe,
    split: Split,
    to_judge: ToJudge,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision,
    team: Team | None,
) -> Callable[[nn.Module], Scores]:
    """Makes `training.tools.Tools.evaluate`; with several processes each judges its part, and the leader gets all."""
    rows, label_of = _choosing(recipe, split), {name: index for index, name in enumerate(split.classes)}
    start, stop = (0, len(rows)) if team is None else team.part(len(rows))

    def load(row: Row) -> torch.Tensor:
        photo = photo_of(to_judge[row.file], preprocessing.reading, row.content_hash)
        return pixels(center(photo, preprocessing))

    every_input = KeptInputs(rows[start:stop], load, at_once(recipe))

    def judge(model: nn.Module, take: Take) -> None:
        model.eval()
        with torch.inference_mode(), precision():
            for inputs in every_input:
                for row, reason in zip(inputs.sources, inputs.reasons, strict=True):
                    if reason:
                        raise PhotosError(f"{row.file} {reason}; it was readable when the training began")
                labels = torch.tensor([label_of[row.class_name] for row in inputs.sources], device=device)
                take(model(to_device(inputs.images, preprocessing, recipe, device)).float(), labels)

    if team is None:
        return lambda model: _scores(functools.partial(judge, model), len(label_of))
    labels = [label_of[row.class_name] for row in rows]
    return lambda model: _scores_together(functools.partial(judge, model), labels, len(label_of), team)


def _scores(judge: Judge, num_classes: int) -> Scores:
    loss_sum, images, correct = 0.0, [0] * num_classes, [0] * num_classes

    def take(logits: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal loss_sum
        loss_sum += float(functional.cross_entropy(logits, labels, reduction="sum"))
        for label, is_right in zip(labels.tolist(), (logits.argmax(dim=1) == labels).tolist(), strict=True):
            images[label] += 1
            correct[label] += is_right

    judge(take)
    return Scores(sum(images), loss_sum, sum(correct), tuple(images), tuple(correct))


def _scores_together(judge: Judge, labels: Sequence[int], num_classes: int, team: Team) -> Scores:
    """The leader's are of all photos, each put in its place by the process that judged it; the others' mean nothing."""
    answers = torch.zeros(3, len(labels), dtype=torch.float64)  # loss, is right, how often it was judged
    place, problem = team.part(len(labels))[0], None

    def take(logits: torch.Tensor, own: torch.Tensor) -> None:
        nonlocal place
        its = answers[:, place : place + len(own)]
        its[0] = functional.cross_entropy(logits, own, reduction="none").cpu()
        its[1] = (logits.argmax(dim=1) == own).cpu()
        its[2] = 1
        place += len(own)

    try:
        judge(take)
    except FieldguideError as error:
        problem = error
    if any(team.agree(FINE if problem is None else NOT_FINE)):
        team.raise_problem(problem)
    team.add_up([answers])
    assert team.rank or bool((answers[2] == 1).all()), "each photo counts once"
    images, correct = [0] * num_classes, [0] * num_classes
    for label, is_right in zip(labels, answers[1].tolist(), strict=True):
        images[label] += 1
        correct[label] += int(is_right)
    return Scores(len(labels), float(answers[0].sum()), sum(correct), tuple(images), tuple(correct))


def at_once(recipe: SettledRecipe) -> int:
    """How many photos go through the network without gradients."""
    training = recipe.training
    return min(training.batch_size, MORE_WITHOUT_GRADIENTS * training.micro_batch_size)


def to_device(
    images: torch.Tensor, preprocessing: Preprocessing, recipe: SettledRecipe, device: torch.device
) -> torch.Tensor:
    """(batch, 3, height, width) uint8 to float32, normalised."""
    ready = normalize(images.to(device), preprocessing)
    return ready.contiguous(memory_format=torch.channels_last) if recipe.execution == "fast" else ready


def _choosing(recipe: SettledRecipe, split: Split) -> list[Row]:
    """The validation photos that choose the epoch."""
    rows = split.part("val")
    chosen = set(in_proportion(rows, recipe.training.seed)[: recipe.training.validation_photos])
    return [row for row in rows if row in chosen]


def in_proportion(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows in a random order whose beginnings have the classes in proportion, after one of each."""
    drawn = np.random.default_rng([seed, len(rows)]).permutation(len(rows)).tolist()
    return [rows[place] for place in order.in_proportion([row.class_name for row in rows], drawn)]
