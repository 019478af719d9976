"""An experiment on a cluster is the local one, whatever is killed."""

import csv
import io
import json
import os
import re
import signal
from types import SimpleNamespace

import pytest

import fieldguide
from fieldguide import UsageError, experiment
from fieldguide.cluster import slurm_jobs
from fieldguide.commands import trials_elsewhere
from fieldguide.commands.trials import Shared
from fieldguide.run_folder import RunFolder
from tests.torture.runner import differences

RECIPE = "resnet34-adam"
TABLES = ("split.csv", "table.csv", "table.md", "table.json")
NAMES = [f"{RECIPE}-seed0", f"{RECIPE}-seed1"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(trained, small, tmp_path_factory):
    """(photos, overrides, folder) of an experiment in this process: two seeds of one recipe."""
    folder, overrides = tmp_path_factory.mktemp("here") / "e", (*small, "training.checkpoint_every_minutes=0")
    experiment(trained[0], [RECIPE], folder, seeds=2, overrides=overrides, quiet=True)
    return trained[0], overrides, folder


def once(act, folder):
    """A callback that acts in the second epoch of the first run, the first time that it comes there."""

    class Once(fieldguide.Callback):
        def run_begins(self, beginning):
            self.mark = folder / beginning.folder.name

        def epoch_done(self, epoch, state):
            if len(state.history) == 2 and self.mark.name == NAMES[0] and not self.mark.exists():
                self.mark.touch()
                act()

    return Once()


def demand_equal(here, folder):
    assert [differences(here / name, folder / name) for name in NAMES] == [[], []]
    assert [name for name in TABLES if timeless(here / name) != timeless(folder / name)] == []


def timeless(path):
    """A table without its minutes."""
    text = path.read_text()
    if path.suffix == ".json":
        told = json.loads(text)
        return told | {"rows": [{key: value for key, value in row.items() if key != "minutes"} for row in told["rows"]]}
    if path.name == "table.csv":
        return [
            {key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(io.StringIO(text))
        ]
    return re.sub(r"\| [^|]* \|$", "|", text, flags=re.MULTILINE)  # the last column


def test_on_ray_killed_workers_change_nothing(here, local_ray, tmp_path, capsys):
    photos, overrides, folder = here
    kill = once(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
    how = {"seeds": 2, "overrides": overrides, "callbacks": [kill]}
    found = experiment(photos, [RECIPE], tmp_path / "e", on="ray", **how)
    assert found.exit_code == 0 and (tmp_path / NAMES[0]).exists()
    demand_equal(folder, tmp_path / "e")
    told = capsys.readouterr().out
    assert "2 trials on Ray on" in told and all(f"{name}: finished, validation accuracy" in told for name in NAMES)


@pytest.mark.torture
def test_on_slurm_a_killed_job_changes_nothing(here, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs pip install 'fieldguide[slurm]'")
    monkeypatch.setattr(slurm_jobs, "KIND", "local")
    monkeypatch.setattr(slurm_jobs, "LAG_SECONDS", 0.3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    photos, overrides, folder = here
    kill = once(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
    how = {"seeds": 2, "overrides": overrides, "callbacks": [kill], "quiet": True}
    assert experiment(photos, [RECIPE], tmp_path / "e", on="slurm", gpus_per_trial=0, **how).exit_code == 0
    assert (tmp_path / NAMES[0]).exists()
    demand_equal(folder, tmp_path / "e")


def test_a_signal_saves_what_runs_and_the_same_command_goes_on(here, local_ray, tmp_path):
    photos, overrides, folder = here
    here_process = os.getpid()
    stop = once(lambda: os.kill(here_process, signal.SIGTERM), tmp_path)
    how = {"seeds": 2, "overrides": overrides, "on": "ray", "quiet": True}
    found = experiment(photos, [RECIPE], tmp_path / "e", callbacks=[stop], **how)
    assert found.exit_code == 143 and found.rows == () and not (tmp_path / NAMES[1]).exists()
    assert RunFolder(tmp_path / "e" / NAMES[0]).can_go_on
    assert experiment(photos, [RECIPE], tmp_path / "e", **how).exit_code == 0
    demand_equal(folder, tmp_path / "e")


@pytest.mark.parametrize(("cancelled", "submitted", "last"), [("", 4, 143), ("Slurm job 1 was cancelled", 1, None)])
def test_a_trial_that_its_machine_stops_begins_again_unless_somebody_cancelled_it(cancelled, submitted, last, tmp_path):
    class Stops:
        calls = 0

        def submit(self, *given):
            Stops.calls += 1
            return Stops.calls

        shared, ended = staticmethod(lambda value: value), staticmethod(lambda begun, seconds: begun)
        result, who_cancelled = staticmethod(lambda begun: 143), staticmethod(lambda begun: cancelled)

    work = trials_elsewhere._Work(
        Stops(), {"a": SimpleNamespace(recipe_name="a")}, tmp_path, Shared(None, "cpu", "quiet", (), {})
    )
    none, found = SimpleNamespace(received=""), []
    assert list(work.begin()) == ["a"]
    while work.begun:
        found += work.ended(0, none)
    assert Stops.calls == submitted and [name for name, _ in found] == ["a"]
    assert found[0][1] == last if last else str(found[0][1]) == f"{cancelled}; what was saved is kept"
    work.begun["x"] = "a"
    assert list(work.ended(0, SimpleNamespace(received="SIGINT"))) == [("a", 143)]  # as it was told to


def test_a_machine_without_the_folder_is_named(tmp_path):
    shared = Shared(None, "cpu", "quiet", (), {})
    with pytest.raises(UsageError, match=r"is not on the machine .*; choose a folder that all share"):
        trials_elsewhere._finish(tmp_path / "e", None, None, RunFolder(tmp_path / "e/a"), shared, False)
    assert not (tmp_path / "e").exists()


def test_shares_without_a_cluster_are_refused(trained, tmp_path):
    for share in ({"cpus_per_trial": 2}, {"gpus_per_trial": 1}):
        with pytest.raises(UsageError, match="are for on; leave them out"):
            experiment(trained[0], [RECIPE], tmp_path / "e", quiet=True, **share)
