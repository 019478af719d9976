"""The bundle: bit for bit what was trained, and anything else is noticed."""

import json
import os
import resource
from dataclasses import replace

import pytest
import torch

from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import load_classifier, write_bundle, write_preprocessing, write_temperature
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description, find_bundle, read_description
from tests.model.test_weights import PREPROCESSING

SMALL = Architecture("resnet10t", "bottleneck", 8, 0.25, 3)
CLASSES = ("käse 🧀", "a\nb", "10")


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    classifier = make_classifier(SMALL)
    for value in classifier.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.randn_like(value) / 100)
    folder = tmp_path / "run" / "bundle"
    folder.parent.mkdir()
    write_bundle(folder, Description(SMALL, CLASSES, PREPROCESSING, "imagenet-1k"), classifier.state_dict())
    return folder, classifier


def change(folder, edit):
    path = folder / "model.json"
    data = json.loads(path.read_text())
    edit(data)
    data.pop("description_sha256", None)  # a stranger's bundle can have any, or none as earlier ones
    path.write_text(json.dumps(data))


def test_a_bundle_gives_back_the_same_network_bit_for_bit(bundle):
    folder, classifier = bundle
    loaded, description = load_classifier(folder)
    assert description.classes == CLASSES and description.architecture == replace(SMALL, image_size_px=32)
    assert description.preprocessing == PREPROCESSING and description.pretrained_on == "imagenet-1k"
    own, other = classifier.state_dict(), loaded.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    assert not loaded.training
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(classifier.eval()(images), loaded(images))


def test_a_bundle_states_its_input_output_and_versions_as_plain_data(bundle):
    data = json.loads((bundle[0] / "model.json").read_text(encoding="utf-8"))
    assert data["input"] == {"name": "images", "shape": ["batch", 3, 32, 32], "dtype": "float32", "color": "RGB"}
    assert data["output"] == {"name": "logits", "shape": ["batch", 3], "dtype": "float32"}
    assert data["head"] == {"kind": "bottleneck", "width": 8, "dropout": 0.25} and data["backbone"] == "resnet10t"
    assert data["max_megapixels"] == 200
    assert {"fieldguide", "torch", "timm"} <= data["versions"].keys()
    assert sorted(os.listdir(bundle[0])) == ["model.json", "model.safetensors"]


def test_joined_stages_come_back_and_an_earlier_bundle_has_the_last_features(tmp_path):
    architecture = Architecture("resnet10t", "linear", None, 0.0, 3, "stages", 32)
    made = make_classifier(architecture)
    write_bundle(tmp_path, Description(architecture, CLASSES, PREPROCESSING, None), made.state_dict())
    loaded, description = load_classifier(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    assert description.architecture == architecture and loaded.head[0].in_features == 128 + 256 + 512
    with torch.inference_mode():
        assert torch.equal(made.eval()(images), loaded(images))
    change(tmp_path, lambda data: data.pop("features"))
    assert read_description(tmp_path).architecture.features == "last"
    with pytest.raises(UsageError, match="its tensors do not fit resnet10t"):
        load_classifier(tmp_path)
    change(tmp_path, lambda data: data.update(features="first"))
    with pytest.raises(UsageError, match="is damaged"):
        read_description(tmp_path)


def test_weights_in_another_memory_layout_are_written_as_they_are(bundle, tmp_path):
    classifier = bundle[1].to(memory_format=torch.channels_last)
    write_bundle(tmp_path / "b", Description(SMALL, CLASSES, PREPROCESSING, None), classifier.state_dict())
    loaded, _ = load_classifier(tmp_path / "b")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in classifier.state_dict().items())


def test_a_bundle_is_found_by_itself_and_by_its_run(bundle, tmp_path):
    folder, _ = bundle
    assert find_bundle(folder) == folder == find_bundle(folder.parent)
    with pytest.raises(UsageError, match="no: no such run or bundle"):
        find_bundle(tmp_path / "no")
    with pytest.raises(UsageError, match=r"not a run or bundle \(no model\.json"):
        find_bundle(tmp_path)
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UsageError, match="this run has no model yet"):
        find_bundle(tmp_path)


def test_one_changed_bit_of_the_weights_is_noticed(bundle):
    path = bundle[0] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^[^(]* does not match model\.json \(its checksum differs\)"):
        load_classifier(bundle[0])


def test_a_bundle_is_read_beside_a_training_that_writes_a_better_epoch_in_between(bundle, monkeypatch):
    from fieldguide.model import bundle as module

    folder, classifier = bundle
    said = Description(SMALL, CLASSES, PREPROCESSING, "imagenet-1k")
    epochs = [{name: value + i for name, value in classifier.state_dict().items()} for i in (1, 2)]

    def read_as_the_training_writes(folder, *, real=module.read_description):
        description = real(folder)
        if epochs:
            write_bundle(folder, said, epochs.pop(0))
        return description

    monkeypatch.setattr(module, "read_description", read_as_the_training_writes)
    loaded, _ = load_classifier(folder)
    name = next(iter(classifier.state_dict()))
    assert not epochs and torch.equal(loaded.state_dict()[name], classifier.state_dict()[name] + 2)


def test_missing_and_cut_off_weights_are_noticed(bundle):
    path = bundle[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(UsageError, match="its checksum differs"):
        load_classifier(bundle[0])
    path.unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors: cannot be read \(No such file"):
        load_classifier(bundle[0])


def test_a_bundle_of_another_format_says_which(bundle):
    change(bundle[0], lambda data: data.update(format=2))
    with pytest.raises(UsageError, match=r"has format 2, but this version of fieldguide reads format 1"):
        read_description(bundle[0])


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"format"', "\ufeff{}", "[" * 50_000])
def test_a_damaged_description_is_told_with_its_name(bundle, content):
    (bundle[0] / "model.json").write_text(content)
    with pytest.raises(UsageError, match=r"model\.json: (cannot be read as JSON|has format None)"):
        load_classifier(bundle[0])


HOSTILE = {
    "no classes": lambda data: data.pop("classes"),
    "classes as text": lambda data: data.update(classes="abc"),
    "classes as a section": lambda data: data.update(classes={"a": 1, "b": 2, "c": 3}),
    "classes that are no names": lambda data: data.update(classes=[1, 2, 3]),
    "classes twice": lambda data: data.update(classes=["a", "b", "a"]),
    "one class": lambda data: data.update(classes=["a"]),
    "no head": lambda data: data.pop("head"),
    "head as a list": lambda data: data.update(head=[1]),
    "an unknown head": lambda data: data["head"].update(kind="evil"),
    "a head of a list": lambda data: data["head"].update(kind=["mlp"]),
    "a huge head": lambda data: data["head"].update(width=10**9),
    "a head without width": lambda data: data["head"].update(width=None),
    "a width of text": lambda data: data["head"].update(width="8"),
    "dropout above 1": lambda data: data["head"].update(dropout=1.5),
    "dropout that is no number": lambda data: data["head"].update(dropout=float("nan")),
    "dropout beyond numbers": lambda data: data["head"].update(dropout=10**400),
    "a backbone of a list": lambda data: data.update(backbone=["resnet10t"]),
    "a backbone from elsewhere": lambda data: data.update(backbone="hf-hub:evil/model"),
    "a backbone that is not there": lambda data: data.update(backbone="resnet10x"),
    "half a character in a name": lambda data: data.update(classes=["a", "b", "\ud800"]),
    "no checksum": lambda data: data.pop("weights_sha256"),
    "preprocessing of text": lambda data: data.update(preprocessing="abc"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_description_without_sense_is_refused(bundle, what):
    change(bundle[0], HOSTILE[what])
    with pytest.raises(UsageError):
        load_classifier(bundle[0])


@pytest.mark.parametrize("name", ["classes", "preprocessing", "temperature"])
def test_a_description_that_was_changed_by_hand_says_so(bundle, name):
    path = bundle[0] / "model.json"
    data = json.loads(path.read_text())
    data[name] = {
        "classes": data["classes"][::-1],
        "preprocessing": {**data["preprocessing"], "mean": [0.1, 0.2, 0.3]},
        "temperature": 2.5,
    }[name]
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"model\.json: was changed after fieldguide wrote it"):
        load_classifier(bundle[0])


def test_the_most_megapixels_come_back_and_are_200_in_a_bundle_of_an_earlier_version(bundle, tmp_path):
    folder, classifier = bundle
    said = Description(SMALL, CLASSES, PREPROCESSING, None, max_megapixels=600)
    write_bundle(tmp_path / "b", said, classifier.state_dict())
    assert read_description(tmp_path / "b").max_megapixels == 600
    write_temperature(tmp_path / "b", 2.0, 9, None)
    write_preprocessing(tmp_path / "b", PREPROCESSING | {"resize_px": 40})
    assert read_description(tmp_path / "b").max_megapixels == 600
    change(folder, lambda data: data.pop("max_megapixels"))
    assert read_description(folder).max_megapixels == 200


@pytest.mark.parametrize("value", [0, -1, 2_000.5, 10**400, float("nan"), float("inf"), "600", True, None, [600]])
def test_megapixels_that_no_recipe_can_say_are_refused(bundle, value):
    change(bundle[0], lambda data: data.update(max_megapixels=value))
    with pytest.raises(UsageError, match=r"model\.json: is damaged \(max_megapixels is .* above 0 and at most 2,000"):
        read_description(bundle[0])


def test_a_description_of_gigabytes_is_not_read(bundle):
    os.truncate(bundle[0] / "model.json", 2**32)
    with pytest.raises(UsageError, match=r"model\.json: .*4,294,967,296 bytes; at most 67,108,864 are read"):
        load_classifier(bundle[0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_kind_of_number_are_refused(bundle, dtype):
    folder, classifier = bundle
    weights = {name: value.to(dtype) for name, value in classifier.state_dict().items()}
    write_bundle(folder, read_description(folder), weights)
    with pytest.raises(UsageError, match="its tensors do not fit"):
        load_classifier(folder)


@pytest.mark.parametrize("width", [65_536, 60_000])
def test_a_network_that_its_weights_do_not_fit_is_refused_before_it_takes_memory(bundle, width):
    def enlarge(data):
        data["head"]["width"] = width
        data["classes"] = [str(number) for number in range(100_000)]  # a head of 24 GB

    change(bundle[0], enlarge)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="its tensors do not fit resnet10t"):
        load_classifier(bundle[0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_file_far_larger_than_its_network_is_not_read(bundle):
    with (bundle[0] / "model.safetensors").open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(UsageError, match="is larger than its network can be"):
        load_classifier(bundle[0])


def test_a_crash_between_weights_and_description_loses_no_model(tmp_path, monkeypatch):
    from fieldguide.model import bundle

    said = Description(SMALL, CLASSES, PREPROCESSING, "imagenet-1k")
    first, second = make_classifier(SMALL), make_classifier(SMALL)
    for crash_at in ("write_bytes", "second write_json"):
        folder = tmp_path / crash_at.replace(" ", "-")
        write_bundle(folder, said, first.state_dict())
        calls = []

        def failing(path, content, *, real=bundle.write_json, calls=calls):
            calls.append(path)
            if len(calls) == 2:
                raise OSError("the machine went down")
            real(path, content)

        def gone(path, content):
            raise OSError("the machine went down")

        with monkeypatch.context() as patch:
            if crash_at == "write_bytes":
                patch.setattr(bundle, "write_bytes", gone)
            else:
                patch.setattr(bundle, "write_json", failing)
            with pytest.raises(OSError, match="went down"):
                write_bundle(folder, said, second.state_dict())
        expected = (first if crash_at == "write_bytes" else second).state_dict()
        loaded = load_classifier(folder)[0].state_dict()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)
