import pytest

from fieldguide.deploy.export.formats import demand_format
from fieldguide.errors import UsageError


def test_an_export_runs_where_its_runtime_alone_is_installed(monkeypatch):
    """To write one takes more packages; without them, an export that lay beside its run was left aside."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "openvino" else None)
    assert demand_format("openvino", to_run=True).runtime == "OpenVINO"
    with pytest.raises(UsageError, match=r"format openvino needs .*pip install 'fieldguide\[export,openvino\]'"):
        demand_format("openvino")
    with pytest.raises(UsageError, match=r"an export for ONNX Runtime needs .*pip install 'fieldguide\[export\]'"):
        demand_format("onnx", to_run=True)
