"""Downloads from a local server that speaks the Hub's protocol, and a sentence for each of its faults."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, file_download
from safetensors.torch import load_file, save

from fieldguide.errors import UsageError
from fieldguide.model import hub as ours
from tests.hub import Hub, serving

SOURCE = "timm/test_resnet.r160_in1k"
FILE = f"{SOURCE}/resolve/main/model.safetensors"
WEIGHTS = save({"conv1.weight": torch.arange(300_000, dtype=torch.float32)})
ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, in place of the Hub, with an empty cache."""
    with serving(Hub({FILE: WEIGHTS})) as made:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, made.url)
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        for place in (constants, file_download):  # both read HF_ENDPOINT when they are imported
            monkeypatch.setattr(place, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield made


def gets(hub):
    return [asked for asked in hub.asked if asked[0] == "GET" and asked[1] == FILE]


def test_weights_are_fetched_once_with_progress_and_found_in_the_cache_from_then_on(hub, monkeypatch, capfd):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the client shows progress on a terminal alone, and here too
    assert ours.in_cache(SOURCE) is None and ours.cached() == []
    path = ours.fetch(SOURCE)
    assert path.read_bytes() == WEIGHTS and ours.in_cache(SOURCE) == path
    assert re.search(r"model\.safetensors: +100%.* 1\.2", capfd.readouterr().err)
    assert ours.fetch(SOURCE) == path and len(gets(hub)) == 1
    assert [(each.name, each.bytes) for each in ours.cached()] == [("test_resnet.r160_in1k", len(WEIGHTS))]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert ours.fetch(SOURCE) == path and hub.asked == []


def test_a_broken_download_goes_on_where_it_ended(hub):
    large = bytes(25_000_000)  # the client keeps what it has in pieces of 10 MiB
    hub.files, hub.cut_after = {FILE: large}, 15_000_000
    assert ours.fetch(SOURCE).read_bytes() == large
    first, second = gets(hub)
    assert first[2] is None and second[2] == f"bytes={10 * 2**20}-"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "refused access (401): there are no such weights, or they need a login"),
        (403, "refused access (403): these weights are gated"),
        (404, "no such file (404)"),
        (407, "the proxy wants a name and a password (407); write them into HTTPS_PROXY"),
    ],
)
def test_an_answer_that_refuses_is_a_sentence(hub, status, told):
    hub.status = status
    with pytest.raises(UsageError) as error:
        ours.fetch(SOURCE)
    assert told in str(error.value)


def test_a_proxy_that_wants_a_password_on_the_way_to_an_https_address_is_a_sentence():
    from huggingface_hub import get_session

    with serving(Hub(status=407)) as proxy:
        client = type(get_session())(proxy=proxy.url)  # of the library that the Hub's client uses
        with client, pytest.raises(Exception) as error:
            client.get("https://hub.example/x")
    assert ours.fault(error.value) == ours.SENTENCES[407]


@pytest.mark.slow  # the Hub's own client waits and asks again, five times
def test_too_many_requests_are_a_sentence(hub):
    hub.status = 429
    with pytest.raises(UsageError, match=r"too many requests from here \(429\); wait some minutes"):
        ours.fetch(SOURCE)


def test_a_truncated_file_is_a_sentence_and_nothing_is_cached(hub):
    hub.short_by = 100
    with pytest.raises(UsageError, match=r"ended early \(a truncated file\); run the command again"):
        ours.fetch(SOURCE)
    assert ours.in_cache(SOURCE) is None


def test_offline_without_them_is_a_sentence(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set and they are not in the cache"):
        ours.fetch(SOURCE)


def test_an_older_repository_has_its_weights_in_torchs_format(hub):
    hub.files = {f"{SOURCE}/resolve/main/pytorch_model.bin": b"x" * 100}
    assert ours.fetch(SOURCE).name == "pytorch_model.bin"


def command(*arguments, **environment):
    made = os.environ | {"PYTHONPATH": str(ROOT / "src"), "NO_PROXY": ""} | environment
    made.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-m", "fieldguide", "weights", *arguments], env=made, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command_fetches_through_the_environments_endpoint_and_lists_it(hub, tmp_path):
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = command("get", "test_resnet.r160_in1k", **environment)
    assert done.returncode == 0 and "test_resnet.r160_in1k: " in done.stdout, done.stderr
    assert "test_resnet.r160_in1k" in command(**environment).stdout
    dead = command("get", "test_resnet.r160_in1k", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "other"),
                   http_proxy="http://127.0.0.1:9")  # fmt: skip
    assert dead.returncode == 2 and "through the proxy http://127.0.0.1:9; check HTTPS_PROXY" in dead.stderr


def test_a_file_is_laid_into_the_cache_and_one_of_another_network_is_refused(hub, tmp_path):
    import timm
    from safetensors.torch import save_file

    from fieldguide.commands.weights import get_weights, import_weights, list_weights

    network = timm.create_model("test_resnet", num_classes=0)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    path = import_weights(tmp_path / "own.safetensors", "test_resnet.r160_in1k")
    assert ours.in_cache(SOURCE) == path and "test_resnet.r160_in1k" in list_weights()[0]
    laid = load_file(path)
    assert all(torch.equal(laid[name], value) for name, value in network.state_dict().items())
    (tmp_path / "other.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(UsageError, match="fits only 0% of the backbone"):
        import_weights(tmp_path / "other.safetensors", "test_resnet.r160_in1k")
    with pytest.raises(UsageError, match="timm has no network"):
        get_weights("resnet5000")
