"""A predictor that is pickled, sent to another process, or finds itself in a forked one."""

import multiprocessing
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldguide.deploy import forked
from fieldguide.deploy.ensemble import Ensemble
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import Interrupted, UsageError
from fieldguide.model.bundle import write_temperature

PHOTOS = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8) for i in range(3)]


def probabilities_of(predictor):
    """What a process is asked to compute."""
    torch.set_num_threads(1)  # as in the tests, for sums of several threads differ in their last bit
    return predictor.predict_proba(PHOTOS)


def test_a_pickled_predictor_is_its_bundles_place_and_says_the_same(bundle):
    write_temperature(bundle, 2.0, 9, None)
    made = load_predictor(bundle, "cpu", "folded")
    content = pickle.dumps(made)
    assert len(content) < 5_000
    again = pickle.loads(content)
    assert (repr(again), again.classes, again.temperature) == (repr(made), made.classes, 2.0)
    np.testing.assert_array_equal(probabilities_of(again), probabilities_of(made))
    assert again.served_by == made.served_by != ""


def test_a_size_that_was_changed_and_an_ensemble_survive_as_well(bundle):
    made = load_predictor(bundle, "cpu")
    larger = made.with_preprocessing(replace(made.preprocessing, image_size_px=48, resize_px=48))
    both = Ensemble([made, larger], ["one", "larger"])
    again = pickle.loads(pickle.dumps(both))
    assert not np.allclose(probabilities_of(made), probabilities_of(larger), atol=1e-6)
    np.testing.assert_array_equal(probabilities_of(again), probabilities_of(both))


def test_a_bundle_that_changed_or_went_since_is_told_in_one_sentence(bundle):
    content = pickle.dumps(load_predictor(bundle, "cpu"))
    write_temperature(bundle, 3.0, 9, None)
    with pytest.raises(UsageError, match=r"bundle: the bundle changed after the predictor was pickled; load it again$"):
        pickle.loads(content).predict(PHOTOS)
    shutil.rmtree(bundle)
    gone = pickle.loads(content)
    with pytest.raises(UsageError, match=r"bundle: no such run or bundle$"):
        gone.predict(PHOTOS)


@pytest.mark.slow
def test_it_works_in_a_pool_of_spawned_processes_from_any_folder(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    made = load_predictor("bundle", "cpu")
    monkeypatch.chdir("/")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(probabilities_of, (made,)).get(timeout=300)
    np.testing.assert_array_equal(found, probabilities_of(made))


FORK = """
import multiprocessing, sys
import numpy as np, torch
from fieldguide.deploy.predictor import load_predictor

torch.set_num_threads(2)
photos = [np.random.default_rng(i).integers(0, 256, (224, 224, 3), dtype=np.uint8) for i in range(8)]
made = load_predictor(sys.argv[1], "cpu", sys.argv[2])
made = made.with_preprocessing(made.preprocessing.of_size(160))
before = made.predict_proba(photos)


def inherited(_):
    return made.predict_proba(photos), made.features(photos[:2]), made.served_by, made.remarks


def sent(predictor):
    return predictor.predict_proba(photos), predictor.served_by, predictor.remarks


with multiprocessing.get_context("fork").Pool(1) as pool:
    found, features, by, remarks = pool.apply_async(inherited, (0,)).get(timeout=60)
    assert np.abs(found - before).max() < 1e-5 and features.shape[0] == 2, found
    again, by_again, remarks_again = pool.apply_async(sent, (made,)).get(timeout=60)
    assert np.abs(again - before).max() < 1e-5
    assert by_again == "plain in fp32" and remarks_again == remarks, (by_again, remarks_again)
    print(by, remarks)
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["plain", pytest.param("folded", marks=pytest.mark.torture)])
def test_after_a_fork_it_computes_by_the_plain_engine_and_one_thread(bundle, engine):
    done = subprocess.run([sys.executable, "-c", FORK, bundle, engine], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    remark = "engine folded does not survive a fork, so plain computes; use spawn"
    assert (remark in done.stdout) == (engine == "folded") and "plain in fp32" in done.stdout


def test_a_gpu_that_the_parent_used_is_refused_after_a_fork(monkeypatch):
    monkeypatch.setattr(forked, "_settled_in", None)
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    with pytest.raises(UsageError, match=r"cannot use the GPU that its parent used: start it with .*spawn"):
        forked.settle_after_fork(torch.device("cuda:0"))


def test_mistakes_come_back_from_another_process_as_they_were():
    for error in (UsageError("a", "b"), Interrupted("SIGTERM", "it ended")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)
    assert pickle.loads(pickle.dumps(UsageError("a", "b"))).problems == ("a", "b")
