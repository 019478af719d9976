import logging

import pytest
import torch

from fieldguide import world
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.errors import UsageError

CPU, GPU, MPS = torch.device("cpu"), torch.device("cuda:0"), torch.device("mps")


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
    assert world.available_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("7900\n")
    assert world.available_of_group(tmp_path) == 100  # the least that is known, where nothing tells of files
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 6000\nactive_file 500\n")
    assert world.available_of_group(tmp_path) == 100 + 6_500
    (tmp_path / "memory.max").write_text("max\n")
    assert world.available_of_group(tmp_path) is None


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "800000 100000"}, 3),
        ("0::/of/the/host", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/x", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpuset:/", {"cpu.max": "100000 100000"}, None),
        ("0::/", {}, None),
    ],
)
def test_a_containers_bound_on_cpu_time_counts_as_so_many_cores(tmp_path, own, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "own").write_text(f"5:memory:/y\n{own}\n")
    assert world.cores_of_group(tmp_path, tmp_path / "own") == expected


def test_cores_are_never_more_than_the_bound(monkeypatch):
    monkeypatch.setattr(world, "cores_of_group", lambda: 1)
    assert world.cores() == 1
    monkeypatch.setattr(world, "cores_of_group", lambda: 100_000)
    assert world.cores() < 100_000


def test_slowness_is_bounded_and_grows_with_the_time_that_python_takes(monkeypatch):
    for seconds, expected in ((0.001, 1.0), (0.21, 3.0), (60.0, 8.0)):
        times = iter([5.0, 5.0 + seconds])
        monkeypatch.setattr(world.time, "perf_counter", lambda times=times: next(times))
        assert world.slowness() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((8, 0), "bf16"), ((9, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")],
)
def test_a_gpu_computes_in_what_it_multiplies_fastest(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert world.fastest_precision(GPU) == precision


def test_an_apple_gpu_is_a_device_where_torch_sees_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device mps: torch sees no such Apple GPU here"):
        world.choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert world.choose_device("mps") == MPS and world.choose_device("auto").type != "mps"
    with pytest.raises(UsageError, match="device mps:3"):
        world.choose_device("mps:3")
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 400)
    assert world.available_bytes(MPS) == 600 and world.fastest_precision(MPS) == "fp32" and not world.can_compile(MPS)


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that sees a GPU where torch sees none."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Tesla T4 (UUID: GPU-1)'\n")
    program.chmod(0o755)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_why_torch_sees_no_gpu_is_said_by_its_cause(driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "nvidia-smi sees a GPU (Tesla T4), but torch does not, because torch" in world.why_no_gpu()
    assert "is built for the CPU alone" in world.why_no_gpu()
    monkeypatch.setattr(torch.version, "cuda", "12.6")

    def too_old(*_, **__):
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040)")

    monkeypatch.setattr(torch, "zeros", too_old)
    assert "too old (found version 11040)); update the driver" in world.why_no_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES is '-1'; unset it" in world.why_no_gpu()


def test_nothing_is_said_where_the_driver_sees_none_or_torch_sees_one(driver, monkeypatch):
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert world.why_no_gpu() is None
    driver.unlink()
    assert world.why_no_gpu() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert world.why_no_gpu() is None


def test_the_first_line_of_a_command_says_it_and_choosing_the_cpu_hides_it(driver, capsys):
    warn_of_hidden_gpu("auto", Screen())
    assert capsys.readouterr().out.startswith("warning: nvidia-smi sees a GPU (Tesla T4), but torch does not")
    warn_of_hidden_gpu("cpu", Screen())
    assert capsys.readouterr().out == ""


def test_a_compiler_that_finds_no_cuda_says_nothing_on_the_terminal():
    about_cuda = logging.getLogger("torch.utils.cpp_extension")
    about_cuda.setLevel(logging.NOTSET)
    world.hush_compiler()
    assert not about_cuda.isEnabledFor(logging.WARNING) and about_cuda.isEnabledFor(logging.ERROR)
