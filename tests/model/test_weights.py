"""Weights from files and earlier runs: what fits is used, what does not is told, code is never executed."""

import os
import zipfile

import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldguide.errors import UsageError
from fieldguide.model import weights as module
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description
from fieldguide.model.foreign import tensors_of
from fieldguide.model.weights import load_weights, problem_with_weights, read_file, what_pretrained

BACKBONE = "resnet10t"
CLASSES = ("ant", "bee", "cat")
PREPROCESSING = {"image_size_px": 32, "resize_px": 32, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


def network(head="linear", classes=3, backbone=BACKBONE, seed=0, features="last"):
    torch.manual_seed(seed)
    return make_classifier(Architecture(backbone, head, None if head == "linear" else 8, 0.0, classes, features))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """A child that reads a .pth takes seconds to start; tests/model/test_foreign.py has some."""
    monkeypatch.setattr(module, "read_foreign", tensors_of)


@pytest.fixture(scope="module")
def source():
    return network(seed=1)


def state(source):
    return {name: value.clone() for name, value in source.backbone.state_dict().items()}


def load(file, model=None, classes=CLASSES):
    model = model or network()
    return model, load_weights(model, str(file), BACKBONE, classes)


def same_backbone(model, source):
    own, other = model.backbone.state_dict(), source.backbone.state_dict()
    return all(torch.equal(own[name], other[name]) for name in own)


def test_a_safetensors_file_fills_the_backbone(source, tmp_path):
    save_file(state(source), tmp_path / "a.safetensors")
    model, loaded = load(tmp_path / "a.safetensors")
    assert same_backbone(model, source)
    assert (loaded.not_used, loaded.not_filled, loaded.head_too, loaded.pretrained_on) == ((), (), False, None)
    assert loaded.sentence() == f"weights from {tmp_path / 'a.safetensors'}"


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "backbone.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.backbone."],
)
def test_a_pth_fills_the_backbone_whatever_wrapped_it(source, tmp_path, prefix):
    key = {"": None, "module.": "state_dict", "backbone.": "model"}.get(prefix, "model_state_dict")
    content = {prefix + name: value for name, value in state(source).items()}
    torch.save({key: content, "epoch": 3} if key else content, tmp_path / "a.pth")
    model, loaded = load(tmp_path / "a.pth")
    assert same_backbone(model, source) and loaded.not_used == ()


def test_the_old_format_of_torch_is_read_too(source, tmp_path):
    torch.save(state(source), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same_backbone(load(tmp_path / "a.pth")[0], source)


def test_the_classifier_of_the_pretraining_is_listed_as_not_used(source, tmp_path):
    save_file(
        state(source) | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}, tmp_path / "a.safetensors"
    )
    _, loaded = load(tmp_path / "a.safetensors")
    assert sorted(loaded.not_used) == ["fc.bias", "fc.weight"]
    assert "not used: " in loaded.sentence() and "fc.weight" in loaded.sentence()


def test_a_head_beside_the_backbone_does_not_hide_it(source, tmp_path):
    content = {f"backbone.{name}": value for name, value in state(source).items()}
    save_file(content | {"head.0.weight": torch.zeros(3, 512)}, tmp_path / "a.safetensors")
    model, loaded = load(tmp_path / "a.safetensors")
    assert same_backbone(model, source) and loaded.not_used == ("head.0.weight",)


def test_what_is_missing_is_listed_as_random(source, tmp_path):
    content = state(source)
    del content["bn1.weight"]
    save_file(content, tmp_path / "a.safetensors")
    _, loaded = load(tmp_path / "a.safetensors")
    assert loaded.not_filled == ("bn1.weight",)
    assert "not in the file, so random: bn1.weight" in loaded.sentence()


def test_half_precision_is_taken_as_float(source, tmp_path):
    half = {name: value.half() if value.is_floating_point() else value for name, value in state(source).items()}
    save_file(half, tmp_path / "a.safetensors")
    model, _ = load(tmp_path / "a.safetensors")
    assert all(value.dtype != torch.float16 for value in model.state_dict().values())


def test_weights_of_another_network_are_refused_with_what_does_not_fit_and_nothing_is_changed(tmp_path):
    save_file(network(backbone="resnet14t").backbone.state_dict(), tmp_path / "a.safetensors")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "a.safetensors", model)
    text = str(caught.value)
    assert "% of the backbone; missing or of another shape: " in text and "fits only" in text
    assert "in the file but not used: " in text and "more" in text
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("is_new", [True, False])
def test_code_in_a_pth_is_never_executed(source, tmp_path, is_new):
    torch.save(
        {"state_dict": state(source), "extra": Evil(str(tmp_path / "hacked"))},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=is_new,
    )
    with pytest.raises(UsageError, match=r"code from a file is never run\. Save only its state dict"):
        load(tmp_path / "a.pth")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip", b"\xff" * 100, b"\x80\x02}."])
def test_a_damaged_file_is_told_in_words(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"model\.weights: {tmp_path / name} (cannot be read|contains)"):
        read_file(tmp_path / name)


def test_a_file_without_tensors_is_refused_in_words(tmp_path):
    save_file({}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {}}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(UsageError, match=rf"model\.weights: {tmp_path / name} contains no tensors"):
            load(tmp_path / name)
    assert module._plain_names({}) == {}


def test_a_compressed_archive_is_refused_before_it_takes_memory(source, tmp_path):
    torch.save(state(source) | {"more": torch.zeros(50_000_000)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "a.pth", "w", 8) as bomb:
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry))
    os.truncate(tmp_path / "whole.pth", 0)
    with pytest.raises(UsageError, match="is a compressed archive"):
        read_file(tmp_path / "a.pth")


ODD_TENSORS = {
    "sparse": torch.zeros(64).to_sparse(),
    "of no device": torch.zeros(64, device="meta"),
    "complex": torch.zeros(64, dtype=torch.complex64),
    "whole numbers": torch.zeros(64, dtype=torch.int64),
    "endless": torch.zeros(1).expand(10**6, 10**6),
    "no tensor": [1, 2],
}


@pytest.mark.parametrize("odd", ODD_TENSORS)
def test_a_tensor_that_is_not_plain_numbers_counts_as_missing(source, tmp_path, odd):
    tensors = state(source)
    name = next(name for name, value in tensors.items() if value.shape == (64,) and value.is_floating_point())
    torch.save(tensors | {name: ODD_TENSORS[odd]}, tmp_path / "a.pth")
    try:
        _, loaded = load(tmp_path / "a.pth")
    except UsageError as error:  # a tensor of a terabyte is a larger network; torch itself reads no sparse one
        assert odd in ("endless", "sparse") and ("larger network" in str(error) or "cannot be read" in str(error))
    else:
        assert loaded.not_filled == (name,)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, 5, torch.zeros(3)])
def test_a_file_without_tensors_by_name_is_told_in_words(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"contains no |, not a state dict"):
        read_file(tmp_path / "a.pth")


def test_a_source_that_is_not_there_is_told_before_anything_is_read(tmp_path):
    assert problem_with_weights("hub") is None and problem_with_weights("none") is None
    assert "no such file" in problem_with_weights(str(tmp_path / "no.pth"))
    assert "pass hub, none, a .safetensors or .pth file, or a run" in problem_with_weights("hubb")
    assert "not a run or bundle" in problem_with_weights(str(tmp_path))
    assert "File name too long" in problem_with_weights("x" * 5_000)


@pytest.fixture
def run(source, tmp_path):
    described = Description(Architecture(BACKBONE, "linear", None, 0.0, 3), CLASSES, PREPROCESSING, "imagenet-1k")
    (tmp_path / "run").mkdir()
    write_bundle(tmp_path / "run" / "bundle", described, source.state_dict())
    return tmp_path / "run"


@pytest.mark.parametrize("place", [".", "bundle"])
def test_an_earlier_run_of_the_same_classes_brings_its_head(source, run, place):
    model, loaded = load(run / place)
    own, other = model.state_dict(), source.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert loaded.head_too and loaded.not_used == () and "head included" in loaded.sentence()
    assert loaded.pretrained_on == "imagenet-1k" == what_pretrained(str(run), BACKBONE)


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (network(), ("ant", "cat", "bee")),
        (network(classes=2), ("ant", "bee")),
        (network("mlp"), CLASSES),
        (network(features="stages"), CLASSES),
    ],
)
def test_an_earlier_run_of_other_classes_or_another_head_brings_its_backbone_alone(source, run, model, classes):
    model, loaded = load(run, model, classes)
    assert same_backbone(model, source) and not loaded.head_too
    assert sorted(loaded.not_used) == ["head.0.bias", "head.0.weight"]


def test_none_means_random_and_says_so():
    model = network()
    before = model.state_dict()["backbone.bn1.weight"].clone()
    loaded = load_weights(model, "none", BACKBONE, CLASSES)
    assert loaded.sentence() == "random weights, as the recipe says (model.weights: none)"
    assert loaded.pretrained_on == "none" and torch.equal(model.state_dict()["backbone.bn1.weight"], before)


def test_a_file_says_nothing_of_its_pretraining(tmp_path):
    assert what_pretrained(str(tmp_path / "a.pth"), "resnet50.a1_in1k") is None
    assert what_pretrained("hub", "resnet50.a1_in1k") == "imagenet-1k"


def test_weights_of_a_larger_network_of_the_same_names_are_refused(tmp_path):
    larger = timm.create_model("resnet34", num_classes=0).state_dict()
    save_file(larger, tmp_path / "resnet34.safetensors")
    smaller = make_classifier(Architecture("resnet18", "linear", None, 0.0, 3))
    with pytest.raises(UsageError, match=r"is for a larger network: this backbone has no layer\d"):
        load_weights(smaller, str(tmp_path / "resnet34.safetensors"), "resnet18", ["a", "b", "c"])


def test_positions_of_another_image_size_are_resized_where_timm_can(tmp_path):
    torch.manual_seed(0)
    published = timm.create_model("test_coatnet", num_classes=0)
    path = tmp_path / "test_coatnet.safetensors"
    save_file(published.state_dict(), path)
    model = make_classifier(Architecture("test_coatnet", "linear", None, 0.0, 3, image_size_px=96))
    loaded = load_weights(model, str(path), "test_coatnet", ("a", "b", "c"))
    assert loaded.not_filled == () and model.backbone.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 128)


def test_positions_that_nobody_can_resize_are_refused_rather_than_left_random(tmp_path):
    path = tmp_path / "levit.safetensors"
    save_file(timm.create_model("levit_128s", num_classes=0).state_dict(), path)
    model = make_classifier(Architecture("levit_128s", "linear", None, 0.0, 3, image_size_px=96))
    with pytest.raises(UsageError, match=r"do not fit at 96 px.*attention_biases.*set data\.image_size_px to .* 224"):
        load_weights(model, str(path), "levit_128s", ("a", "b", "c"))


def test_weights_by_the_names_of_their_first_publication_are_converted(tmp_path):
    """DINOv2's own file has a mask token that timm's network lacks."""
    own = timm.create_model("test_vit", num_classes=0).state_dict()
    path = tmp_path / "test_vit.safetensors"
    save_file({f"visual.trunk.{name}": value for name, value in own.items()}, path)
    model = make_classifier(Architecture("test_vit", "linear", None, 0.0, 3))
    loaded = load_weights(model, str(path), "test_vit", ("a", "b", "c"))
    assert loaded.not_filled == () and torch.equal(model.backbone.state_dict()["cls_token"], own["cls_token"])
