"""Which network a file of weights belongs to."""

import timm
import torch
from safetensors.torch import save_file

from fieldguide.model import matching
from fieldguide.model.matching import files_in, names_for
from fieldguide.model.table import KnownBackbone


def saved(path, name):
    torch.manual_seed(0)
    save_file(timm.create_model(name, num_classes=7).state_dict(), path)
    return path


def test_a_file_is_matched_by_its_name_with_or_without_a_tag(tmp_path):
    assert names_for(saved(tmp_path / "test_resnet.safetensors", "test_resnet")) == (
        ["test_resnet.r160_in1k"],
        "by its file name",
    )
    exact = saved(tmp_path / "test_efficientnet.r160_in1k.safetensors", "test_efficientnet")
    assert names_for(exact)[0] == ["test_efficientnet.r160_in1k"]
    other = saved(tmp_path / "Resnet18-f37072fd.safetensors", "resnet18")
    assert names_for(other)[0] == ["resnet18.tv_in1k"]


def test_the_twin_of_tensorflow_is_named_too_for_no_tensor_tells_them_apart(tmp_path):
    path = saved(tmp_path / "mobilenetv3-small-075-mine.safetensors", "mobilenetv3_small_075")
    assert [name.partition(".")[0] for name in names_for(path)[0]] == [
        "mobilenetv3_small_075",
        "tf_mobilenetv3_small_075",
    ]


def test_a_name_that_lies_does_not_count_and_tensors_decide(tmp_path, monkeypatch):
    rows = (KnownBackbone("test_resnet.r160_in1k", 372_688, 0.1, 160, 40.0, 160),)
    monkeypatch.setattr(matching, "known_backbones", lambda: rows)
    path = saved(tmp_path / "resnet50.safetensors", "test_resnet")
    assert names_for(path) == (["test_resnet.r160_in1k"], "by its tensors")


def test_what_fits_nothing_has_no_name(tmp_path):
    path = tmp_path / "strange.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    (tmp_path / "notes.txt").write_text("no weights")
    assert files_in(tmp_path) == [path] and names_for(path)[0] == []
