"""Photos as people have them, as RGB images: paths, bytes, open files, PIL images, arrays and tensors."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, Union, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from fieldguide.data.read.content import MAX_FILE_BYTES
from fieldguide.data.read.decode import UnreadableError, as_decoded, decode, read_photo
from fieldguide.data.read.quiet import OneAtATime
from fieldguide.data.read.reading import AnyReading
from fieldguide.errors import UsageError

if TYPE_CHECKING:
    import torch


@runtime_checkable
class OpenFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Bytes."""

    def seek(self, offset: int, /) -> int:
        """To a place."""


@runtime_checkable
class Fetched(Protocol):
    """A photo that is elsewhere."""

    def fetch(self) -> bytes:
        """Its file's bytes; several threads may call it. Raises UnreadableError if it is not there."""


InMemory = Union[bytes, bytearray, memoryview, Image.Image, npt.NDArray[np.uint8], "torch.Tensor"]
Photo = str | Path | Fetched | OpenFile | InMemory
LAYOUTS = {
    "array": "arrays must be (height, width, 3) RGB, (height, width, 4) RGBA or (height, width) gray, uint8",
    "tensor": "tensors must be (3, height, width) RGB, uint8 or floats in [0, 1]",
}
_reading = OneAtATime()  # several members of an ensemble may read one open file


def demand_several(photos: object, call: str) -> None:
    """Holds what should be several photos against a single one, which can be iterated over as well.

    Raises:
        UsageError: it is a single photo.
    """
    if (isinstance(photos, np.ndarray) or _is_tensor(photos)) and photos.ndim == 4:
        return
    single = str | Path | bytes | bytearray | memoryview | OpenFile | Image.Image | np.ndarray
    if isinstance(photos, single) or _is_tensor(photos):
        raise UsageError(f"{call} takes a list of photos; put a single one into [ ]")


def as_image(photo: object, reading: AnyReading, least_px: int | None) -> Image.Image:
    """Any photo as an upright RGB image.

    Args:
        photo: of `Photo`; an open file is read from its beginning.
        reading, least_px: as `decode` takes them.

    Raises:
        UnreadableError: with the reason, as the end of a sentence that begins with the photo's name.
    """
    if isinstance(photo, str | Path):
        return read_photo(Path(photo), reading, least_px)
    if isinstance(photo, bytes | bytearray | memoryview):
        return _decoded(bytes(photo), reading, least_px)
    if isinstance(photo, Fetched):
        return _decoded(photo.fetch(), reading, least_px)
    if isinstance(photo, np.ndarray):
        photo = _from_array(photo)
    elif _is_tensor(photo):
        photo = _from_tensor(photo)
    elif not isinstance(photo, Image.Image) and isinstance(photo, OpenFile):
        return _decoded(_content(photo), reading, least_px)
    if not isinstance(photo, Image.Image):
        raise UnreadableError(
            f"is a {type(photo).__name__}; expected a path, bytes, an open file, a PIL image, an array or a tensor"
        )
    if 0 in photo.size:
        raise UnreadableError("has no pixels")
    return as_decoded(photo, reading)


def _decoded(content: bytes, reading: AnyReading, least_px: int | None) -> Image.Image:
    if not content:
        raise UnreadableError("is empty", "empty")
    return decode(content, reading, least_px)


def _content(file: OpenFile) -> bytes:
    try:
        with _reading():
            file.seek(0)
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: closed, or a text that cannot be decoded
        raise UnreadableError(f"cannot be read ({error})") from None
    if not isinstance(content, bytes):
        raise UnreadableError('is a file opened as text; open it with mode "rb"')
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableError(f"is a file of over {MAX_FILE_BYTES:,} bytes")
    return content


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    is_color = array.ndim == 3 and array.shape[2] in (3, 4)
    _demand(is_color or array.ndim == 2, "array", array.shape, array.dtype)
    _demand(array.dtype == np.uint8, "array", array.shape, array.dtype)
    _demand_one_layout("array", array.shape)
    return Image.fromarray(array)


def _is_tensor(photo: object) -> "TypeGuard[torch.Tensor]":
    """Whether it is a tensor; without torch, which takes seconds to import, there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(photo, torch.Tensor)


def _from_tensor(tensor: "torch.Tensor") -> Image.Image:
    import torch

    shape = tuple(tensor.shape)
    _demand(tensor.ndim == 3 and shape[0] == 3, "tensor", shape, tensor.dtype)
    _demand(tensor.dtype == torch.uint8 or tensor.is_floating_point(), "tensor", shape, tensor.dtype)
    _demand_one_layout("tensor", shape)
    values = tensor.detach().cpu()
    if values.is_floating_point() and values.numel():
        values = values.float()
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise UnreadableError(f"has values from {low:.3g} to {high:.3g}; {LAYOUTS['tensor']}, not normalised")
        values = (values * 255).round()
    return Image.fromarray(values.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())  # (height, width, 3)


def _demand(is_right: bool, kind: str, shape: tuple[int, ...], dtype: object) -> None:
    if not is_right:
        raise UnreadableError(f"has shape {shape} and type {dtype}; {LAYOUTS[kind]}")


def _demand_one_layout(kind: str, shape: tuple[int, ...]) -> None:
    """A photo of 3 pixels' height or width could be of either layout; a wrong guess would be silent."""
    if len(shape) == 3 and shape[0] == 3 and shape[2] in (3, 4):
        raise UnreadableError(f"has shape {shape}, which could be channels first or last; pass a PIL image instead")
