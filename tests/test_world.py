import pytest
import torch

from fieldguide import world

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def test_a_lack_of_memory_is_known_by_its_kind_or_its_words():
    lacks = [MemoryError(), torch.OutOfMemoryError("x"), RuntimeError("CUDA error: out of memory"),
             RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), RuntimeError("not enough memory: you tried")]  # fmt: skip
    assert all(map(world.is_out_of_memory, lacks))
    others = [RuntimeError("shapes do not match"), OSError(12, "Cannot allocate memory"), ValueError("out of memory")]
    assert not any(map(world.is_out_of_memory, others))


@pytest.mark.parametrize(("bf16", "amx", "expected"), [(True, False, True), (False, True, True), (False, False, False)])
def test_an_earlier_torch_tells_of_bf16_in_its_own_way(monkeypatch, bf16, amx, expected):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert world.multiplies_bfloat16(CPU) is expected


def test_a_gpu_compiles_only_with_triton_and_a_c_compiler(monkeypatch):
    monkeypatch.setattr(world.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(world.importlib.util, "find_spec", lambda name: None)
    assert not world.can_compile(GPU) and world.can_compile(CPU)
    monkeypatch.setattr(world.importlib.util, "find_spec", lambda name: object())
    assert world.can_compile(GPU)
    monkeypatch.setattr(world.shutil, "which", lambda name: None)
    assert not world.can_compile(GPU) and not world.can_compile(CPU)


def test_what_a_container_keeps_of_files_that_were_read_counts_as_free(tmp_path):
    assert world._available_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("7900\n")
    assert world._available_of_group(tmp_path) == 100  # the least that is known, where nothing tells of files
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 6000\nactive_file 500\n")
    assert world._available_of_group(tmp_path) == 100 + 6_500
    (tmp_path / "memory.max").write_text("max\n")
    assert world._available_of_group(tmp_path) is None
