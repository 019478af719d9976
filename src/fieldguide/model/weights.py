"""Weights from the Hub, a file or an earlier run into a network; names what did not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model import pretrained
from fieldguide.model.bundle import fits, read_bundle
from fieldguide.model.classifier import Classifier
from fieldguide.model.description import find_bundle, read_description
from fieldguide.model.foreign import read_foreign

WRAPPERS = ("module.", "backbone.", "model.", "_orig_mod.")
CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.")  # what a pretrained network may have beyond a backbone
ENOUGH = 0.95  # of the backbone's values must come from the file


@dataclass(frozen=True)
class LoadedWeights:
    """Where weights came from and what did not fit.

    Attributes:
        pretrained_on: `none`, `imagenet-1k`, another name, or None if unknown.
        not_used: names in the file that the network does not have.
        not_filled: names in the backbone that the file does not have; they stay random.
        licence: by timm's name for it; None if unknown.
    """

    source: str
    pretrained_on: str | None
    not_used: tuple[str, ...] = ()
    not_filled: tuple[str, ...] = ()
    head_too: bool = False
    licence: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"not_used": list(self.not_used), "not_filled": list(self.not_filled)}

    def sentence(self) -> str:
        """What happened, for the screen."""
        if self.source == "none":
            return "random weights, as the recipe says (model.weights: none)"
        text = f"weights from {self.source}"
        if self.head_too:
            text += ", head included"
        if self.not_used:
            text += f"; not used: {_some(self.not_used)}"
        if self.not_filled:
            text += f"; not in the file, so random: {_some(self.not_filled)}"
        return text


def problem_with_weights(source: str) -> str | None:
    """Why weights cannot come from this source, checked without reading them; None if they can."""
    try:
        is_file, exists = Path(source).is_file(), Path(source).exists()
    except OSError as error:  # a name that is too long
        return f"model.weights: {source} cannot be read ({error.strerror})"
    if source in ("hub", "none") or is_file:
        return None
    if not exists:
        return f"model.weights: no such file: {source}; pass hub, none, a .safetensors or .pth file, or a run"
    try:
        find_bundle(Path(source))
    except UsageError as error:
        return f"model.weights: {error}"
    return None


def what_pretrained(source: str, backbone: str) -> str | None:
    """What weights from `source` were trained on; None if unknown.

    For an earlier run: what its first weights were trained on. Its own photos are in its split.

    Raises:
        UsageError: an earlier run that cannot be read.
    """
    if source == "none":
        return "none"
    if source == "hub":
        return pretrained.pretrained_on(backbone)
    if Path(source).is_dir():
        return read_description(find_bundle(Path(source))).pretrained_on
    return None


def licence_of(source: str, backbone: str) -> str | None:
    """The licence of weights from `source`, by timm's name for it; None if unknown, as for a file.

    Raises:
        UsageError: an earlier run that cannot be read.
    """
    if source == "hub":
        return pretrained.licence(backbone)
    return read_description(find_bundle(Path(source))).licence if Path(source).is_dir() else None


def load_weights(classifier: Classifier, source: str, backbone: str, classes: Sequence[str]) -> LoadedWeights:
    """Fills a network's backbone, and its head from an earlier run of the same classes and head.

    Args:
        classifier: changed in place.
        source: `hub`, `none`, a .safetensors or .pth file (no pickled code is executed), or a run.
        backbone: timm's name.
        classes: in the order of the network's outputs.

    Raises:
        UsageError: there are no such weights, or they fit less than 95 % of the backbone.
    """
    if source == "none":
        return LoadedWeights(source, "none")
    pretrained_on = what_pretrained(source, backbone)
    if source == "hub":
        found = pretrained.hub_weights(backbone)
    elif Path(source).is_dir():
        return _from_run(classifier, Path(source), pretrained_on, classes)
    else:
        found = read_weights_of_file(Path(source))
    not_used, not_filled = fill_backbone(classifier, found, source)
    return LoadedWeights(source, pretrained_on, not_used, not_filled, licence=licence_of(source, backbone))


def demand_weights(on_meta: Classifier, source: str) -> None:
    """Checks that weights can be had and fit a network, which has no memory for them yet.

    Raises:
        UsageError: as `load_weights`.
    """
    if source in ("hub", "none"):
        return
    if Path(source).is_dir():
        _fitted(on_meta, _backbone_of(read_bundle(find_bundle(Path(source)))[1]), source)
        return
    found = read_weights_of_file(Path(source))
    _fitted(on_meta, found, source)
    if Path(source).suffix != ".safetensors":  # another process reads it, which takes seconds
        _read_ahead[_identity(Path(source))] = found


def read_file(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors or from torch's format, without executing pickled code.

    Raises:
        UsageError: missing, damaged, without tensors, or with more than tensors.
    """
    if path.suffix != ".safetensors":
        return read_foreign(path)
    try:
        found = dict(load_file(path))
    except MemoryError:
        raise UsageError(f"model.weights: not enough memory to read {path}") from None
    except Exception as error:  # safetensors' own errors, and what its Python part raises for types that torch lacks
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise UsageError(f"model.weights: {path} cannot be read ({reason})") from None
    if not found:
        raise UsageError(f"model.weights: {path} contains no tensors")
    return found


def read_weights_of_file(path: Path) -> dict[str, torch.Tensor]:
    """As `read_file`, without the prefixes that wrappers add to every name."""
    return _read_ahead.pop(_identity(path), None) or _plain_names(read_file(path))


_read_ahead: dict[object, dict[str, torch.Tensor]] = {}  # what was checked and is loaded next


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:  # said by what reads it
        return None
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def share_of(network: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> float:
    """The smaller of two shares: of the network's values that are in a file, and of the file's that are in it."""
    fitting = _fitting(own := network.state_dict(), found)
    values = sum(value.numel() for value in fitting.values())
    beyond = sum(found[name].numel() for name in found if name not in fitting and not name.startswith(CLASSIFIERS))
    whole = sum(value.numel() for value in own.values())
    return float(min(values / max(1, whole), values / max(1, values + beyond)))


def _plain_names(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes prefixes that wrappers add to every name."""
    while found and (prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in found)), None)):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    if any(name.startswith("backbone.") for name in found) and all(
        name.startswith(("backbone.", "head.")) for name in found
    ):
        found = {name.removeprefix("backbone."): value for name, value in found.items()}
    return found


def fill_backbone(
    classifier: Classifier, found: dict[str, torch.Tensor], source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copies what fits into the backbone, converted if needed; returns names not used and names not filled.

    `source` is for the message of the UsageError, raised if it fits less than 95 %.
    """
    fitting, not_used, not_filled = _fitted(classifier, found, source)
    classifier.backbone.load_state_dict(fitting, strict=False)
    return not_used, not_filled


def _fitted(
    classifier: Classifier, found: dict[str, torch.Tensor], source: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...], tuple[str, ...]]:
    """What fits the backbone, converted if needed, and the names that do not; UsageError if it is too little."""
    network = classifier.backbone
    own = network.state_dict()
    fitting = _fitting(own, found)
    if not all(name in fitting for name, value in own.items() if value.is_floating_point()):
        made = backbones.converted(network, found)
        if len(of_made := _fitting(own, made)) > len(fitting):
            found, fitting = made, of_made
    _demand_own_size(classifier, [name for name in own if name in found and name not in fitting], source)
    not_filled = tuple(name for name in own if name not in fitting and not name.endswith("num_batches_tracked"))
    share = sum(own[name].numel() for name in fitting) / max(1, sum(value.numel() for value in own.values()))
    not_used = tuple(name for name in found if name not in fitting)
    if share < ENOUGH:
        raise UsageError(
            f"model.weights: {source} fits only {share:.0%} of the backbone; "
            f"missing or of another shape: {_some(not_filled)}; "
            f"in the file but not used: {_some(not_used) or 'nothing'}"
        )
    foreign = [name for name in not_used if not name.startswith(CLASSIFIERS)]
    if sum(found[name].numel() for name in foreign) > (1 - ENOUGH) * sum(value.numel() for value in own.values()):
        raise UsageError(
            f"model.weights: {source} is for a larger network: this backbone has no {_some(foreign)}; "
            "set model.backbone to the network of these weights"
        )
    return fitting, not_used, not_filled


def _fitting(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in found.items() if name in own and fits(value, own[name])}


def _demand_own_size(classifier: Classifier, others: Sequence[str], source: str) -> None:
    """Raises UsageError if `others` have another shape because the network was built for another image size.

    Left out, they would stay random.
    """
    size, own = classifier.interface.built_for_px, classifier.interface.preprocessing.get("image_size_px")
    if size is not None and others:
        raise UsageError(
            f"data.image_size_px: these weights do not fit at {size} px, and timm cannot resize them ({source}: "
            f"{_some(others)}); set data.image_size_px to their own size (as published: {own}), or model.weights to "
            "none"
        )


def _from_run(classifier: Classifier, run: Path, pretrained_on: str | None, classes: Sequence[str]) -> LoadedWeights:
    folder = find_bundle(run)
    description, tensors = read_bundle(folder)
    not_used, not_filled = fill_backbone(classifier, _backbone_of(tensors), str(run))
    head = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    own = classifier.head.state_dict()
    head_too = (
        list(description.classes) == list(classes)
        and head.keys() == own.keys()
        and all(fits(value, own[name]) for name, value in head.items())
    )
    if head_too:
        classifier.head.load_state_dict(head)
    else:
        not_used += tuple(f"head.{name}" for name in head)
    return LoadedWeights(str(run), pretrained_on, not_used, not_filled, head_too, description.licence)


def _backbone_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
