"""The Open Inference Protocol: pixels and files in, probabilities out, and mistakes named."""

import base64
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from fieldguide.commands.serve import missing_packages
from tests.deploy.server.conftest import CLASSES, Client, jpeg, served

if missing := missing_packages():
    pytest.skip(f"needs {', '.join(missing)}: pip install 'fieldguide[serve]'", allow_module_level=True)


INFER = "/v2/models/colours/infer"


def tensors_of(pixels, files):
    """The four ways to send photos: (JSON, bytes behind it)."""
    shape, sizes = list(pixels.shape), [struct.pack("<I", len(file)) + file for file in files]
    coded = [base64.b64encode(file).decode() for file in files]
    binary = {"parameters": {"binary_data_size": pixels.size}}
    of_files = {"parameters": {"binary_data_size": sum(map(len, sizes))}}
    return [
        ({"datatype": "UINT8", "shape": shape, "data": pixels.tolist()}, b""),
        ({"datatype": "UINT8", "shape": shape, "data": pixels.flatten().tolist()}, b""),
        ({"datatype": "UINT8", "shape": shape, **binary}, pixels.tobytes()),
        ({"datatype": "BYTES", "shape": [len(files)], "data": coded}, b""),
        ({"datatype": "BYTES", "shape": [len(files)], **of_files}, b"".join(sizes)),
    ]


def infer(client, tensor, binary=b"", **more):
    text = json.dumps({"inputs": [{"name": "photos", **tensor}], **more}).encode()
    length = {"Inference_Header_Content_Length": str(len(text))} if binary else {}
    return client.ask("POST", INFER, text + binary, Content_Type="application/json", **length)


def test_kserve_takes_pixels_and_files_and_gives_probabilities_in_the_order_of_the_classes(predictor):
    files = [jpeg(1), jpeg(2)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    wanted = predictor.predict_proba(files)
    with served(predictor) as server:
        client = Client(server.port)
        for tensor, binary in tensors_of(pixels, files):
            status, answer, _ = infer(client, tensor, binary, id="7")
            assert status == 200 and answer["model_name"] == "colours" and answer["id"] == "7", answer
            probabilities, label = answer["outputs"]
            assert probabilities["name"] == "probabilities" and probabilities["shape"] == [2, 3]
            np.testing.assert_allclose(np.reshape(probabilities["data"], (2, 3)), wanted, rtol=1e-6)
            assert label["data"] == [CLASSES[place] for place in wanted.argmax(1)]
        one = infer(client, tensor, binary, outputs=[{"name": "label"}])[1]["outputs"]
        assert [each["name"] for each in one] == ["label"]
        about = client.ask("GET", "/v2/models/colours")[1]
        assert about["classes"] == list(CLASSES) and about["inputs"][0]["shape"] == [-1, -1, -1, 3]
        assert client.ask("GET", "/v2/models/colours/ready")[0] == 200
        assert client.ask("GET", "/v2/models/others")[0] == 404
        described = client.ask("GET", "/openapi.json")[1]["paths"]
        assert all(client.ask("GET", path)[0] in (200, 405) for path in described)


def test_kserve_names_what_is_wrong(predictor):
    pixel = {"datatype": "UINT8", "shape": [1, 1, 1, 3]}
    cases = {
        "shape: must be (photos, height, width, 3)": {"datatype": "UINT8", "shape": [1, 3, 8, 8], "data": [0] * 192},
        "shape: must be a list of whole numbers": {"datatype": "UINT8", "shape": [1, -1, 8, 3], "data": []},
        "datatype: must be UINT8 or BYTES, not 'FP32'": {"datatype": "FP32", "shape": [1, 1, 1, 3], "data": [0.5] * 3},
        "data: must be 3 whole numbers from 0 to 255": {**pixel, "data": [0, 1, 256]},
        "must be 3 whole numbers": {**pixel, "data": [0, 1.5, 2]},
        "must be 3 whole numbers from": {**pixel, "data": [0, 1]},
        "data: has over 3 values": {**pixel, "data": [[0, 1, 2, 3]]},
        "data: must be nested evenly": {**pixel, "data": [[0, 1], 2]},
        "binary_data_size: is 9": {**pixel, "parameters": {"binary_data_size": 9}},
        "a file is not base64": {"datatype": "BYTES", "shape": [1], "data": ["?"]},
        "the tensor holds 1 photo; its shape says 2": {"datatype": "BYTES", "shape": [2], "data": ["AAAA"]},
        "photo 0 is not an image that can be read": {"datatype": "BYTES", "shape": [1], "data": ["AAAA"]},
    }
    with served(predictor, limits={"json_bytes": 5000}) as server:
        client = Client(server.port)
        for told, tensor in cases.items():
            status, answer, _ = infer(client, tensor)
            assert status == 400 and told in answer["error"], answer
        for body in (b"x", b"[]", b"{}", b'{"inputs": [3]}', b'{"inputs": [{"name": "x"}]}', b"[" * 4000):
            assert client.ask("POST", INFER, body)[0] == 400
        assert client.ask("POST", INFER, b'"' + b"x" * 5000)[0] == 413
        assert client.ask("POST", INFER, b"{}", Inference_Header_Content_Length="99")[0] == 400
