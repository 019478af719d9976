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
    assert world._cores_of_group(tmp_path, tmp_path / "own") == expected


def test_cores_are_never_more_than_the_bound(monkeypatch):
    monkeypatch.setattr(world, "_cores_of_group", lambda: 1)
    assert world.cores() == 1
    monkeypatch.setattr(world, "_cores_of_group", lambda: 100_000)
    assert world.cores() < 100_000


def test_slowness_is_bounded_and_grows_with_the_time_that_python_takes(monkeypatch):
    for seconds, expected in ((0.001, 1.0), (0.21, 3.0), (60.0, 8.0)):
        times = iter([5.0, 5.0 + seconds])
        monkeypatch.setattr(world.time, "perf_counter", lambda times=times: next(times))
        assert world.slowness() == pytest.approx(expected)
