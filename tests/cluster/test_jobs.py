"""What both clusters promise: results, mistakes as they are, and calls that are made again where a process dies."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest

from fieldguide import UsageError
from fieldguide.cluster import ray_tasks, slurm_jobs
from fieldguide.cluster.jobs import LostError, Share, demand_place
from fieldguide.cluster.opened import opened
from fieldguide.cluster.ray_connection import Connection

HAS = {name: importlib.util.find_spec(name) is not None for name in ("ray", "submitit")}


@pytest.fixture(params=["ray", "slurm"])
def cluster(request, tmp_path, monkeypatch):
    """Ray on this machine, and submitit's local executor; a call is made again once."""
    monkeypatch.setattr(ray_tasks, "MOST_LOSSES", 1)
    monkeypatch.setattr(slurm_jobs, "MOST_LOSSES", 1)
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    else:
        pytest.importorskip("submitit", reason="needs pip install 'fieldguide[slurm]'")
        monkeypatch.setattr(slurm_jobs, "KIND", "local")
        monkeypatch.setattr(slurm_jobs, "LAG_SECONDS", 0.3)
    with opened(request.param, Share(1, 0), tmp_path / "logs") as made:
        yield made


def ended(cluster, begun):
    until = time.monotonic() + 60
    while not cluster.ended([begun], 0.2):
        assert time.monotonic() < until
    return cluster.result(begun)


def test_calls_give_what_they_give_here_in_the_same_folder(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(number, big):
        return number + len(big), os.getcwd(), os.getpid()

    number, folder, process = ended(cluster, cluster.submit(call, 2, cluster.shared("x" * 1000)))
    assert (number, folder) == (1002, str(tmp_path)) and process != os.getpid()


def test_a_mistake_comes_back_as_it_was_raised(cluster):
    def call():
        raise UsageError("one", "two")

    with pytest.raises(UsageError) as caught:
        ended(cluster, cluster.submit(call))
    assert caught.value.problems == ("one", "two") and type(caught.value) is UsageError


@pytest.mark.slow
def test_a_call_whose_process_is_killed_is_made_again_so_many_times(cluster, tmp_path):
    def call(folder, kills):
        count = len(list(Path(folder).iterdir()))
        if count < kills:
            (Path(folder) / str(count)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    for name in ("once", "always"):
        (tmp_path / name).mkdir()
    assert ended(cluster, cluster.submit(call, str(tmp_path / "once"), 1)) == 1
    begun = cluster.submit(call, str(tmp_path / "always"), 99)
    with pytest.raises(LostError, match="ended 2 times"):
        ended(cluster, begun)
    assert len(list((tmp_path / "always").iterdir())) == 2


def test_a_cluster_of_this_machine_refuses_more_than_it_has(local_ray, monkeypatch):
    monkeypatch.setattr(ray_tasks, "connect", lambda _: Connection.STARTED)
    monkeypatch.setattr(ray_tasks, "disconnect", lambda connection: None)
    with pytest.raises(UsageError, match="cpus_per_trial 99 gpus_per_trial 0: this machine has 2 CPUs"):
        ray_tasks.RayTasks(None, Share(99))
    assert ray_tasks.RayTasks(None, Share(0.5)).sentence == "Ray on this machine (2 CPUs, 0 GPUs)"


def test_a_place_that_is_none_is_told_in_a_sentence(monkeypatch):
    with pytest.raises(UsageError, match="on kubernetes: must be ray, ray://HOST:10001 or slurm"):
        demand_place("kubernetes")
    for share in (Share(0), Share(float("nan")), Share(1, -1)):
        with pytest.raises(UsageError, match=r"cpus.per.trial: must be above 0"):
            share.demand("trial")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for on, words in (("ray://a:1", r"package ray: pip install 'fieldguide\[ray\]'"), ("slurm", r"\[slurm\]")):
        with pytest.raises(UsageError, match=words):
            demand_place(on)


@pytest.mark.skipif(not HAS["submitit"], reason="needs pip install 'fieldguide[slurm]'")
def test_where_there_is_no_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="slurm: "), opened("slurm", Share(1, 0), tmp_path / "logs"):
        pass
    with pytest.raises(UsageError, match="Slurm gives whole GPUs"):
        slurm_jobs.KIND, before = "local", slurm_jobs.KIND
        try:
            slurm_jobs.SlurmJobs(Share(1, 0.5), tmp_path / "logs")
        finally:
            slurm_jobs.KIND = before
