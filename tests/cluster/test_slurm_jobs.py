"""What a job does that Slurm does not run: jobs are submitit's local ones, and Slurm's commands are scripts."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldguide import UsageError
from fieldguide.cluster import slurm_jobs, slurm_queue
from fieldguide.cluster.jobs import LostError, Share
from fieldguide.cluster.slurm_queue import GONE, Queued, queue, waits

pytest.importorskip("submitit", reason="needs pip install 'fieldguide[slurm]'")


class Job:
    """One that Slurm was given; it has no result until one is written."""

    def __init__(self, number, folder):
        self.job_id = str(number)
        self.paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl", stderr=folder / f"{number}.err")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SlurmJobs as on a cluster: `states` is what Slurm says of jobs by number, `told` what scancel was told."""
    states, told = {}, []
    monkeypatch.setattr(slurm_jobs, "KIND", "local")
    made = slurm_jobs.SlurmJobs(Share(2), tmp_path / "logs")
    numbers = iter(range(1, 99))
    monkeypatch.setattr(made, "_job", lambda given: Job(next(numbers), tmp_path))
    for name, value in {"KIND": "slurm", "ASK_SECONDS": 0.0, "LAG_SECONDS": 0.0, "SIGNAL_SECONDS": 0.0}.items():
        monkeypatch.setattr(slurm_jobs, name, value)
    monkeypatch.setattr(slurm_jobs, "queue", lambda: dict(states) if states is not None else None)
    monkeypatch.setattr(slurm_jobs, "scancel", lambda number, *how: told.append((number, *how)))
    made.states, made.told = states, told
    return made


def script(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_job_that_somebody_cancelled_is_not_submitted_again(slurm, monkeypatch):
    monkeypatch.setattr(slurm_jobs, "LAG_SECONDS", 99)  # it never ran, so there is no result to wait for
    begun = slurm.submit(len, "x")
    slurm.states["1"] = Queued("CANCELLED", "None")
    assert slurm.ended([begun], 1) == [begun]
    with pytest.raises(LostError, match="Slurm job 1 was cancelled"):
        slurm.result(begun)


@pytest.mark.parametrize("state", [Queued("NODE_FAIL"), Queued("OUT_OF_MEMORY"), GONE])
def test_a_job_that_slurm_lost_is_submitted_again_and_its_last_state_told(slurm, state, monkeypatch):
    monkeypatch.setattr(slurm_jobs, "MOST_LOSSES", 2)
    begun = slurm.submit(len, "x")
    if state != GONE:
        slurm.states.update({"1": state, "2": state})
    slurm.states["3"] = Queued("RUNNING")
    assert slurm.ended([begun], 0.7) == [] and slurm._calls[begun].number == "3"
    del slurm.states["3"]
    if state != GONE:
        slurm.states["3"] = state
    assert slurm.ended([begun], 1) == [begun]
    with pytest.raises(LostError, match=f"ended 3 times .*Slurm job 3: {state.state}; see .*3.err"):
        slurm.result(begun)


def test_slurm_that_does_not_answer_costs_no_job_and_is_told_once(slurm, monkeypatch):
    monkeypatch.setattr(slurm_jobs, "queue", lambda: None)
    begun = slurm.submit(len, "x")
    assert slurm.ended([begun], 0.3) == [] and slurm._calls[begun].number == "1"
    assert [remark[:22] for remark in slurm.remarks()] == ["Slurm does not answer "] and slurm.remarks() == []


def test_why_jobs_cannot_begin_is_told_once_but_not_that_it_is_not_their_turn(slurm):
    begun = [slurm.submit(len, "x") for _ in range(3)]
    down = "Nodes required for job are DOWN, DRAINED or reserved"
    slurm.states.update(
        {"1": Queued("PENDING", down), "2": Queued("PENDING", down), "3": Queued("PENDING", "Priority")}
    )
    slurm.ended(begun, 0.3)
    assert slurm.remarks() == [f"Slurm job 1 and 1 more cannot begin: {down}. Wait, or look with: scontrol show job 1"]
    slurm.ended(begun, 0.3)
    assert slurm.remarks() == []


def test_an_interrupt_cancels_what_waits_and_signals_what_runs_until_it_has_saved(slurm, monkeypatch):
    waiting, running = slurm.submit(len, "x"), slurm.submit(len, "x")
    slurm.states.update({"1": Queued("PENDING", "Resources"), "2": Queued("RUNNING")})
    slurm.interrupt([waiting, running])
    assert slurm.told == [("1",), ("2", "--signal=TERM")]
    assert slurm.ended([waiting, running], 0) == [waiting]
    assert slurm.ended([running], 0.3) == [] and slurm.told[-1] == ("2", "--signal=TERM") and len(slurm.told) > 2
    monkeypatch.setattr(slurm_jobs, "LAG_SECONDS", 99)
    monkeypatch.setattr(slurm_jobs, "ASK_SECONDS", 99)
    slurm.states["2"] = Queued("FAILED")  # died instead: it does not begin again, and its result is not waited for
    assert slurm.ended([running], 1) == [running] and len(slurm._calls) == 2 and slurm._calls[running].number == "2"


def test_a_job_that_hears_no_signal_does_not_outlive_the_experiment(slurm):
    begun = slurm.submit(len, "x")
    slurm.states["1"] = Queued("RUNNING")
    slurm.close()
    assert slurm.told == []  # nobody asked it to end
    slurm.interrupt([begun])
    slurm.ended([begun], 0)
    slurm.close()
    assert slurm.told[-1] == ("1",)


@pytest.mark.parametrize(
    ("state", "cancelled", "told"),
    [("CANCELLED", "Slurm job 1 was cancelled", []), ("PENDING", "", [("1",)]), ("FAILED", "", [])],
)
def test_a_job_that_a_signal_stopped_was_cancelled_or_made_room(slurm, state, cancelled, told, monkeypatch):
    begun = slurm.submit(len, "x")
    states = iter([Queued("COMPLETING"), Queued(state)])  # at first, Slurm does not say how it ends
    monkeypatch.setattr(slurm_jobs, "queue", lambda: {"1": next(states)})
    assert slurm.who_cancelled(begun) == cancelled
    assert slurm.told == told  # one that is queued again would train beside the one that is submitted for it


def test_the_queue_is_read_by_number_and_a_mute_slurm_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert queue() is None  # no squeue
    script(tmp_path / "bin", "squeue", "print('7|PENDING|ReqNodeNotAvail, UnavailableNodes:a|b\\n8|RUNNING|None')")
    assert queue() == {"7": Queued("PENDING", "ReqNodeNotAvail, UnavailableNodes:a|b"), "8": Queued("RUNNING", "None")}
    assert waits(queue(), ["8", "9"]) == {}
    script(tmp_path / "bin", "squeue", "raise SystemExit(1)")
    assert queue() is None
    slurm_queue.scancel("7")  # no such command: nothing is raised


def test_a_job_that_sbatch_refuses_is_told_with_what_chose_its_place(tmp_path, monkeypatch):
    refusal = "import sys; sys.exit('sbatch: error: invalid partition specified: gpux')"
    for name, text in {"srun": "", "sbatch": refusal}.items():
        script(tmp_path / "bin", name, text)
    for name in [name for name in os.environ if name.startswith("SBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("SBATCH_PARTITION", "gpux")
    with pytest.raises(UsageError, match=r"refuses the job \(SBATCH_PARTITION=gpux\): invalid partition specified"):
        slurm_jobs.SlurmJobs(Share(1), tmp_path / "logs").submit(len, "x")


def test_a_job_gets_its_cpus_also_from_slurm_22_05_on(tmp_path, monkeypatch):
    for name, text in {"srun": "", "sbatch": "print('Submitted batch job 5')"}.items():
        script(tmp_path / "bin", name, text)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    made = slurm_jobs.SlurmJobs(Share(3), tmp_path / "logs")
    made.submit(time.sleep, 0)
    asked = next(Path(tmp_path / "logs").glob("*submission.sh")).read_text()
    assert "#SBATCH --cpus-per-task=3\n" in asked and " --cpus-per-task=3 " in asked.rpartition("srun")[2]
    assert "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-3}\n" in asked
    assert made.sentence == "Slurm (each 3 CPUs, 0 GPUs)"
