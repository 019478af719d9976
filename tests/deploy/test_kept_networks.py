"""Compiled networks: kept for the very weights, and never more than a bound."""

import pytest
import torch

from fieldguide.deploy import kept_networks, openvino_engine
from fieldguide.deploy.engines import Plain
from fieldguide.deploy.kept_networks import KeptNetworks, key_of
from fieldguide.deploy.openvino_engine import Openvino, problem_with_openvino
from fieldguide.deploy.serving import TOLERANCE, relative_difference
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import make_classifier

CPU = torch.device("cpu")


def network(seed, backbone="test_resnet"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_classifier(Architecture(backbone, "linear", None, 0.0, 5)).eval()


def test_a_damaged_or_missing_file_gives_nothing(tmp_path):
    kept = KeptNetworks(tmp_path / "new")
    assert kept.read("a") is None
    kept.keep("a", b"content")
    assert kept.read("a") == b"content"
    kept.files()[0].write_bytes(kept.files()[0].read_bytes()[:-1] + b"x")
    assert kept.read("a") is None
    kept.clear()
    assert kept.files() == []


def test_the_one_that_was_used_longest_ago_goes_first_and_large_ones_are_not_kept(tmp_path, monkeypatch):
    import os

    monkeypatch.setattr(kept_networks, "MOST_BYTES", 300)
    kept = KeptNetworks(tmp_path)
    for number, name in enumerate("abc"):
        kept.keep(name, bytes(60))
        os.utime(tmp_path / f"{name}.bin", (number, number))
    kept.read("a")
    kept.keep("d", bytes(60))
    assert [path.stem for path in kept.files()] == ["c", "a", "d"]
    kept.keep("e", bytes(151))
    assert kept.read("e") is None


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "file").touch()
    KeptNetworks(tmp_path / "file" / "folder").keep("a", b"x")


def test_a_key_belongs_to_weights_and_circumstances():
    first, other = network(1), network(2)
    assert key_of(first, {"batch": 1}) == key_of(network(1), {"batch": 1})
    assert len({key_of(first, {"batch": 1}), key_of(other, {"batch": 1}), key_of(first, {"batch": 2})}) == 3


@pytest.mark.slow
@pytest.mark.skipif(problem_with_openvino(CPU) is not None, reason="OpenVINO is not installed")
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_openvino_computes_the_same_from_what_was_kept_without_converting(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path))
    classifier, images = network(3, backbone), torch.randn(2, 3, 64, 64)
    first = Openvino(classifier, CPU, 2, 64).compute(images).copy()
    assert relative_difference(first, Plain(classifier, CPU).compute(images)) <= TOLERANCE
    ways = []
    original = openvino_engine._converted
    monkeypatch.setattr(openvino_engine, "_converted", lambda *given: ways.append(1) or original(*given))
    again = Openvino(classifier, CPU, 2, 64).compute(images)
    assert ways == [] and (again == first).all()
    KeptNetworks.of_user().files()[0].write_bytes(b"damaged")
    assert (Openvino(classifier, CPU, 2, 64).compute(images) == first).all() and ways == [1]


@pytest.mark.skipif(problem_with_openvino(CPU) is not None, reason="OpenVINO is not installed")
def test_a_common_network_is_converted_without_torch_jit(tmp_path, monkeypatch):
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path))
    monkeypatch.setattr(openvino_engine, "_by_torchscript", lambda *_: pytest.fail("torch.jit was used"))
    Openvino(network(3), CPU, 2, 32)
