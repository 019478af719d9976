"""What is said of the trials of a search, also where Tune runs on the cluster and has no screen."""

from types import SimpleNamespace

import pytest

from fieldguide import UsageError
from fieldguide.cluster import ray_search
from fieldguide.cluster.jobs import Share
from fieldguide.cluster.ray_search import ACCURACY, EPOCHS, WHY, Tried, Wanted

TRIED = [Tried("a", {"x": 1}, 3, 0.75), Tried("b", {"x": 2}, why="the loss is not finite")]
LINES = ["a: 3 epochs, best accuracy 0.7500", "b: failed: the loss is not finite"]


def test_a_search_names_the_package_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_search.importlib.util, "find_spec", lambda name: None)
    wanted = Wanted({}, {}, 1, 1, 1, 0)
    with pytest.raises(UsageError, match=r"needs the package optuna: pip install 'fieldguide\[ray\]'"):
        ray_search.search(print, wanted, tmp_path, "ray", Share(), resume=False, tell=print)


@pytest.mark.parametrize("is_here", [True, False])
def test_each_trial_is_told_once(is_here, local_ray, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="needs pip install 'fieldguide[ray]'")
    said, made = [], []

    def fit():
        if is_here:
            for each in TRIED:
                last = {WHY: each.why} if each.why else {EPOCHS: each.epochs, ACCURACY: each.accuracy}
                made[0].on_trial_complete(1, [], SimpleNamespace(trial_id=each.name, last_result=last))

    new = SimpleNamespace(fit=fit)
    monkeypatch.setattr(ray_search, "_new", lambda *given: made.append(given[-1]) or new)
    monkeypatch.setattr(ray_search, "_tried", lambda folder, trainable: TRIED)
    wanted = Wanted({}, {}, 1, 1, 1, 0)
    assert ray_search.search(print, wanted, tmp_path, "ray", Share(), resume=False, tell=said.append) == TRIED
    assert said == LINES
