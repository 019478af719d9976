"""Which of timm's networks a file of weights belongs to: by the file's name, else by its tensors."""

import re
from pathlib import Path

import torch

from fieldguide.model import pretrained
from fieldguide.model.architecture import Architecture
from fieldguide.model.backbone import problem_with_backbone
from fieldguide.model.classifier import make_on_meta
from fieldguide.model.table import candidates, known_backbones
from fieldguide.model.weights import CLASSIFIERS, read_weights_of_file, share_of

SUFFIXES = (".safetensors", ".pth")
ENOUGH = 0.95  # of a backbone's values must be in the file, and of the file's in the backbone and its classifier
TORCHVISION = "tv_in1k"  # files with plain names, such as resnet18.pth, are mostly torchvision's


def files_in(folder: Path) -> list[Path]:
    """The files of weights in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def names_for(path: Path) -> tuple[list[str], str]:
    """Names of timm that the weights in a file fit, and how they were found; several if they differ in no tensor.

    Raises:
        UsageError: the file cannot be read.
    """
    found = read_weights_of_file(path)
    by_name = [name for name in _by_name(path.stem) if _share(name, found) >= ENOUGH]
    if by_name:
        return by_name, "by its file name"
    values = sum(value.numel() for name, value in found.items() if not name.startswith(CLASSIFIERS))
    rows = [(row.name, row.parameters) for row in candidates()]
    rows += [(row.name, row.parameters) for row in known_backbones()]
    near = [name for name, parameters in rows if ENOUGH <= parameters / max(1, values) <= 1]
    first = {name.partition(".")[0]: name for name in reversed(near)}  # one of each architecture
    shares = {name: _share(name, found) for name in first.values()}
    most = max(shares.values(), default=0.0)
    return [name for name, share in shares.items() if share == most >= ENOUGH], "by its tensors"


def _by_name(stem: str) -> list[str]:
    """The longest name of an architecture that the file's name begins with, and its TensorFlow twin, with a tag."""
    exact = stem.lower().removeprefix("timm_")
    if "." in exact and problem_with_backbone(exact) is None:
        return [exact]
    plain = re.sub(r"[-.]", "_", exact)
    known = pretrained.architectures()
    begins = [name for name in known if plain == name or plain.startswith(f"{name}_")]
    if not begins:
        return []
    longest = max(begins, key=len)
    twins = [longest, f"tf_{longest}"] if f"tf_{longest}" in known else [longest]  # these differ in padding alone
    return [_with_tag(name, plain.removeprefix(f"{longest}_")) for name in twins]


def _with_tag(architecture: str, rest: str) -> str:
    """The architecture with the tag in the file's name, or torchvision's, or timm's first."""
    tags = pretrained.tags_of(architecture)
    named = [tag for tag in tags if tag and rest.startswith(tag.lower())]
    plain = TORCHVISION if TORCHVISION in tags else pretrained.config_of(architecture).get("tag") or ""
    tag = max(named, key=len) if named else str(plain)
    return f"{architecture}.{tag}" if tag else architecture


def _share(name: str, found: dict[str, torch.Tensor]) -> float:
    return share_of(make_on_meta(Architecture(name, "linear", None, 0.0, 2)).backbone, found)
