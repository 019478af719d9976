"""A checkpoint that another program trained, of the same network and head: its tensors under this program's names."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fieldguide.errors import UsageError
from fieldguide.model.classifier import Classifier
from fieldguide.model.weights import fill_backbone, read_weights_of_file

Tensors = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"  # of batch normalisation; not every program keeps it


def fill_whole(classifier: Classifier, path: Path) -> tuple[str, ...]:
    """Fills backbone and head from a state dict (.safetensors or .pth; no pickled code is executed).

    The backbone's tensors may have any prefix. The head's layers are taken in their order, and where they are numbered,
    as in an `nn.Sequential`, their distances must be ours: in another order the same shapes compute something else.

    Args:
        classifier: changed in place.

    Returns:
        Names in the file that the network does not have.

    Raises:
        UsageError: it cannot be read, or does not fill the whole network.
    """
    found = read_weights_of_file(path)
    prefix = _prefix(classifier, found)
    inner = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    own = classifier.backbone.state_dict()
    beyond, missing = fill_backbone(classifier, {n: v for n, v in inner.items() if n in own} or inner, str(path))
    if missing:
        raise UsageError(f"{path}: the backbone's {', '.join(missing[:6])} is not in the file; is it the same network?")
    rest = {name: value for name, value in inner.items() if name not in own}
    rest |= {name: value for name, value in found.items() if not name.startswith(prefix)}
    return tuple(beyond) + _fill_head(classifier, rest, path)


def _prefix(classifier: Classifier, found: Tensors) -> str:
    """What stands before the backbone's names in the file: what fits most of them."""
    own = [name for name in classifier.backbone.state_dict() if not name.endswith(COUNTER)]
    first = own[0]
    candidates = {name[: -len(first)] for name in found if name == first or name.endswith(f".{first}")} | {""}
    return max(sorted(candidates), key=lambda prefix: sum(f"{prefix}{name}" in found for name in own))


def _fill_head(classifier: Classifier, rest: Tensors, path: Path) -> tuple[str, ...]:
    own = classifier.head.state_dict()
    ours, theirs = _layers(own), _layers(rest)
    if len(ours) != len(theirs) or any(not _fits(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True)):
        raise UsageError(
            f"{path}: its head has {_told(theirs)}; the recipe's has {_told(ours)}. Set model.head and "
            "model.head_width as it was trained, and give one line per class in --classes"
        )
    if (numbers := _numbers(theirs)) and _gaps(numbers) != _gaps(_numbers(ours) or numbers):
        raise UsageError(
            f"{path}: the head's layers are at {_joined(numbers)}, the recipe's at {_joined(_numbers(ours))}, so they "
            "come in another order (such as batch normalisation before ReLU), and the model would answer otherwise"
        )
    filled: dict[str, torch.Tensor] = {}
    for (name, layer), other in zip(ours.items(), theirs.values(), strict=True):
        filled |= {f"{name}.{kind}": other.get(kind, value) for kind, value in layer.items()}
    classifier.head.load_state_dict(filled)
    used = {id(value) for layer in theirs.values() for value in layer.values()}
    return tuple(name for name, value in rest.items() if id(value) not in used)


def _layers(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors by layer and kind, layers in their order: numbers count as numbers."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        found.setdefault(layer, {})[kind] = value
    if _numbers(found):
        return dict(sorted(found.items(), key=lambda item: int(_last(item[0]))))
    return found


def _last(layer: str) -> str:
    return layer.rpartition(".")[2]


def _numbers(layers: Mapping[str, object]) -> list[int]:
    """The places of layers in a Sequential; empty if they have other names, or a single one has none."""
    return [int(_last(layer)) for layer in layers] if all(re.fullmatch(r"\d+", _last(name)) for name in layers) else []


def _gaps(numbers: Sequence[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(numbers)]


def _fits(own: Tensors, other: Tensors) -> bool:
    kinds = own.keys() - {COUNTER}
    return kinds == other.keys() - {COUNTER} and all(own[kind].shape == other[kind].shape for kind in kinds)


def _told(layers: Mapping[str, Tensors]) -> str:
    shapes = [
        f"{name or 'a layer'} ({' x '.join(map(str, (layer.get('weight', next(iter(layer.values())))).shape))})"
        for name, layer in layers.items()
    ]
    return ", ".join(shapes[:8]) + (f" and {len(shapes) - 8} more" if len(shapes) > 8 else "") or "no layers"


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
