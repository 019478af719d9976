"""The probe of a training: features of the frozen backbone, then a head fitted to them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fieldguide.model.classifier import Classifier
from fieldguide.settings import ITSELF
from fieldguide.training.plan import Stage
from fieldguide.training.probe import Features, Labels, Probe, fit_probe
from fieldguide.training.state import Scores
from fieldguide.training.tools import Batches, FitProbe, HowToGoOn

PHOTOS_A_CLASS = 2  # on average, that a probe sees however little time there is; each class has one at least
VIEW = 1_000_003  # epochs between the random numbers of two views of a photo
Bias = npt.NDArray[np.float32]


def make_probe(
    batches: Batches,
    features_of: Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], torch.Tensor],
    batches_a_view: int,
    num_classes: int,
    seed: int,
    group_of: Mapping[str, str],
    log_prior: torch.Tensor | None,
) -> FitProbe:
    """Makes `training.tools.Tools.probe`.

    Args:
        features_of: (network up to the head, images) to (images, features) float32 on the CPU.
        batches_a_view: how many it takes to see all photos once.
        seed: of the photos on which the strength is chosen.
        group_of: files to the name of their group, for files that belong together.
        log_prior: (num_classes,) subtracted from the head's logits. The fitted head knows how frequent each class is;
            without it, the logits are those of equally frequent classes (Menon et al. 2021, arXiv 2007.07314, section
            4.1, tau 1). None: the head stays as it is.
    """
    prior = np.zeros(num_classes, dtype=np.float32) if log_prior is None else log_prior.numpy()

    def probe(model: nn.Module, stage: Stage, epoch: int, goes: HowToGoOn) -> Scores | None:
        assert isinstance(model, Classifier)
        model.eval()
        found = _features(
            partial(features_of, model.features), stage, epoch, goes, batches, batches_a_view, num_classes
        )
        if found is None:
            return None
        features, labels, files, views = found
        fitted = fit_probe(features, labels, num_classes, seed, views, _numbers(files, group_of))
        _put_into(model, replace(fitted, bias=fitted.bias - prior))
        return _figures(fitted, features, labels, prior)

    return probe


def _features(
    features_of: Callable[[torch.Tensor], torch.Tensor],
    stage: Stage,
    epoch: int,
    goes: HowToGoOn,
    batches: Batches,
    batches_a_view: int,
    num_classes: int,
) -> tuple[Features, Labels, list[str], int] | None:
    """(rows, features), (rows,), the files of a view and the number of views; None if told to stop.

    The first of several views is the photo itself, without augmentation.

    If time runs out, a view that is not complete is left out, unless it is the only one: then it goes on until it has a
    few photos of each class, which come first.
    """
    whole: list[tuple[Features, Labels, list[str]]] = []
    views = stage.views or 1
    for view in range(views):
        pieces, labels, files, is_whole, is_enough = [], [], list[str](), True, False
        seen = stage if view or views == 1 else stage.model_copy(update={"augmentation": ITSELF})
        for done, batch in enumerate(batches(seen, epoch + VIEW * view, 0), start=1):
            pieces.append(features_of(batch.images))
            labels.append(batch.labels.cpu())
            files += batch.files
            is_last = done == batches_a_view
            answer = goes(len(batch.files), not is_last or view + 1 < views)
            if answer == "stop":
                return None
            if answer == "enough" and (whole or is_last or len(files) >= PHOTOS_A_CLASS * num_classes):
                is_whole, is_enough = is_last, True
                break
        if is_whole or not whole:
            order = sorted(range(len(files)), key=files.__getitem__)  # the same order of photos in every view
            whole.append((torch.cat(pieces)[order].numpy(), torch.cat(labels)[order].numpy(), sorted(files)))
        if is_enough:
            break
    rows, own = (np.concatenate([view[place] for view in whole]) for place in (0, 1))
    return rows, own, whole[0][2], len(whole)


def _numbers(files: list[str], group_of: Mapping[str, str]) -> Labels | None:
    """(files,) one number per group; None if there are no groups."""
    if not group_of:
        return None
    return np.unique([group_of.get(file, file) for file in files], return_inverse=True)[1]


def _put_into(model: Classifier, probe: Probe) -> None:
    layer = next(child for child in model.head.modules() if isinstance(child, nn.Linear))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        layer.bias.copy_(torch.from_numpy(probe.bias))


def _figures(probe: Probe, features: Features, labels: Labels, prior: Bias) -> Scores:
    """The loss that was minimised and the head's predictions, as for a training step."""
    logits = torch.from_numpy(probe.logits(features))
    target = torch.from_numpy(labels)
    loss = nn.functional.cross_entropy(logits, target, reduction="sum")
    right = (logits - torch.from_numpy(prior)).argmax(dim=1) == target
    return Scores(len(labels), float(loss), int(right.sum()))
