"""The Open Inference Protocol (KServe V2): what a model says of itself, and tensors in place of files."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fieldguide.deploy.answers import Prediction, Status
from fieldguide.deploy.photos import Photo
from fieldguide.deploy.server.limits import Refused
from fieldguide.errors import counted, listing

PHOTOS, PROBABILITIES, LABEL = "photos", "probabilities", "label"
JSON_LENGTH = "inference-header-content-length"  # of the extension for binary tensors
EXTENSIONS = ["binary_tensor_data"]


def metadata(name: str, classes: Sequence[str], max_megapixels: float) -> dict[str, Any]:
    """What the model takes and gives."""
    return {
        "name": name,
        "versions": [],
        "platform": "fieldguide",
        "inputs": [
            {"name": PHOTOS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            {"name": PHOTOS, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(classes)]},
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
        "classes": list(classes),
        "max_megapixels": max_megapixels,
    }


def parse(body: bytes, json_bytes: str | None, most_json_bytes: int) -> tuple[dict[str, Any], memoryview]:
    """The request's JSON, and the binary tensors behind it.

    Args:
        body: the whole body.
        json_bytes: the header `JSON_LENGTH`; None: all is JSON.
        most_json_bytes: more is refused.

    Raises:
        Refused: too large, or no JSON object.
    """
    length = len(body)
    if json_bytes is not None:
        if not json_bytes.isdigit() or int(json_bytes[:20]) > len(body):
            raise Refused(400, f"{JSON_LENGTH}: must be a number of bytes, at most those of the body")
        length = int(json_bytes)
    if length > most_json_bytes:
        what = f"JSON of over {most_json_bytes:,} bytes; send binary tensors, or files to /predict"
        raise Refused(413, what)
    try:
        found = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body is not a JSON object")
    return found, memoryview(body)[length:]


def photos_of(request: Mapping[str, Any], binary: memoryview, most_photos: int) -> list[Photo]:
    """The photos of an inference request; raises Refused with what is wrong with it."""
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"inputs: must be a list of one tensor, {PHOTOS}")
    tensor = inputs[0]
    if tensor.get("name") != PHOTOS:
        raise Refused(400, f"inputs: the tensor is called {PHOTOS}, not {str(tensor.get('name'))[:100]!r}")
    shape, kind = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise Refused(400, "shape: must be a list of whole numbers above 0")
    readers = {"UINT8": _pixels, "BYTES": _files}
    sides = {"UINT8": 4, "BYTES": 1}
    if kind not in readers:
        raise Refused(400, f"datatype: must be UINT8 or BYTES, not {str(kind)[:100]!r}")
    if len(shape) != sides[kind] or (kind == "UINT8" and shape[3] != 3):
        what = "(photos, height, width, 3)" if kind == "UINT8" else "(photos)"
        raise Refused(400, f"shape: must be {what} for {kind}, not {shape[:8]}")
    if shape[0] > most_photos:
        raise Refused(413, f"over {most_photos:,} photos in one request; send fewer at once")
    return readers[kind](tensor, shape, _binary_of(tensor, binary))


def _binary_of(tensor: Mapping[str, Any], binary: memoryview) -> memoryview | None:
    parameters = tensor.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size != len(binary):
        raise Refused(400, f"binary_data_size: is {size}, and {len(binary):,} bytes come after the JSON")
    return binary


def _pixels(tensor: Mapping[str, Any], shape: Sequence[int], binary: memoryview | None) -> list[Photo]:
    expected = math.prod(shape)
    if binary is None:
        data = _flat(tensor.get("data"), expected)
        if len(data) != expected or set(map(type, data)) != {int} or not 0 <= min(data) <= max(data) <= 255:
            raise Refused(400, f"data: must be {expected:,} whole numbers from 0 to 255")
        pixels = np.array(data, dtype=np.uint8)
    else:
        if len(binary) != expected:
            raise Refused(400, f"the binary tensor has {len(binary):,} bytes; its shape needs {expected:,}")
        pixels = np.frombuffer(binary, np.uint8)
    return list(pixels.reshape(shape))  # (height, width, 3) each


def _flat(data: Any, most: int) -> list[Any]:
    """Nested or flat, as the protocol allows both."""
    if not isinstance(data, list):
        raise Refused(400, "data: must be a list")
    flat: list[Any] = data
    while flat and isinstance(flat[0], list):
        if not all(isinstance(row, list) for row in flat):
            raise Refused(400, "data: must be nested evenly")
        flat = [value for row in flat for value in row]
        if len(flat) > most:
            raise Refused(400, f"data: has over {most:,} values; its shape needs {most:,}")
    return flat


def _files(tensor: Mapping[str, Any], shape: Sequence[int], binary: memoryview | None) -> list[Photo]:
    files = _from_binary(binary) if binary is not None else _from_base64(tensor.get("data"))
    if len(files) != shape[0]:
        raise Refused(400, f"the tensor holds {counted(len(files), 'photo')}; its shape says {shape[0]:,}")
    return list(files)


def _from_base64(data: Any) -> list[bytes]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise Refused(400, "data: must be a list of files in base64")
    try:
        return [base64.b64decode(text, validate=True) for text in data]
    except (binascii.Error, ValueError):
        raise Refused(400, "data: a file is not base64; for raw bytes, send a binary tensor") from None


def _from_binary(binary: memoryview) -> list[bytes]:
    """Each file behind its length in 4 bytes, the lowest first."""
    files, place = [], 0
    while place < len(binary):
        length = int.from_bytes(binary[place : place + 4], "little")
        place += 4 + length
        if place > len(binary):
            raise Refused(400, "the binary tensor is cut off")
        files.append(bytes(binary[place - length : place]))
    return files


def response(
    name: str, request: Mapping[str, Any], classes: Sequence[str], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """The answer; raises Refused that names each photo that cannot be read, for which the protocol has no place."""
    problems = [
        f"photo {place} {each.reason}" for place, each in enumerate(predictions) if each.status is Status.FAILED
    ]
    if problems:
        raise Refused(400, listing(problems).strip())
    rows = [dict(each.top) for each in predictions]
    values = [float(np.float32(row[label])) for row in rows for label in classes]
    outputs = [
        {"name": PROBABILITIES, "datatype": "FP32", "shape": [len(rows), len(classes)], "data": values},
        {"name": LABEL, "datatype": "BYTES", "shape": [len(rows)], "data": [each.label for each in predictions]},
    ]
    wanted = request.get("outputs")
    if isinstance(wanted, list) and wanted:
        names = {each.get("name") for each in wanted if isinstance(each, dict)}
        if names - {PROBABILITIES, LABEL}:
            raise Refused(400, f"outputs: must be {PROBABILITIES} or {LABEL}")
        outputs = [each for each in outputs if each["name"] in names]
    own = {"id": request["id"]} if isinstance(request.get("id"), str) else {}
    return {"model_name": name, **own, "outputs": outputs}
