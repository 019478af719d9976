"""An address without a cluster is told in a sentence, and at once."""

import importlib.util
import socket
import sys
from types import SimpleNamespace

import pytest

from fieldguide import UsageError
from fieldguide.cluster import ray_connection
from fieldguide.cluster.jobs import Share
from fieldguide.cluster.ray_connection import Connection, _demand_listener, connect, disconnect
from fieldguide.cluster.ray_tasks import RayTasks
from fieldguide.errors import MachineError


@pytest.fixture
def ray(monkeypatch):
    """Stands for the package: what it was called with, and a cluster that does not answer."""
    called = []

    def init(address, **how):
        called.append(address)
        if address != "local":
            raise ConnectionError("ray client connection timeout\nmore")

    made = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: called.append("shutdown"))
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ray_connection.QUIET:
        monkeypatch.setenv(name, "0")
    made.called = called
    return made


def test_an_address_where_nobody_listens_is_told_without_waiting_for_ray(ray):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UsageError, match=rf"nothing answers at 127\.0\.0\.1:{port} \(.*refused\); is the head running"):
        connect(f"ray://127.0.0.1:{port}")
    assert ray.called == []
    for address in ("ray://head", "ray://:10001", "ray://head:port"):
        with pytest.raises(UsageError, match=r"must be ray://HOST:PORT, such as ray://head:10001"):
            connect(address)


def test_a_head_that_does_not_answer_may_want_a_token(ray, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        on = f"ray://127.0.0.1:{server.getsockname()[1]}?"
        with pytest.raises(UsageError, match=r"connection timeout\); if it wants a token, set RAY_AUTH_MODE=token"):
            connect(on)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UsageError, match="RAY_ADDRESS=head:6379: no Ray cluster answers there"):
        connect(None)


def test_the_clients_package_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"on ray://a:1: needs the package grpcio: pip install 'fieldguide\[ray\]'"):
        _demand_listener("ray://a:1", "--on ray://a:1")


def test_what_the_calling_program_connected_stays_connected_and_nothing_else(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "")  # as if it were not set
    assert connect(None) is Connection.STARTED and ray.called == ["local"]
    ray.is_initialized = lambda: True
    assert connect("ray://other:10001") is Connection.FOUND
    disconnect(Connection.FOUND)
    assert ray.called == ["local"]
    for each in (Connection.STARTED, Connection.JOINED):
        disconnect(each)
    assert ray.called == ["local", "shutdown", "shutdown"]


def test_a_head_that_dies_is_told_and_what_ran_is_left(ray, monkeypatch):
    def dies(*_, **__):
        raise ConnectionError("Client is shutting down.")

    ray.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 2}}]
    ray.cluster_resources = lambda: {"CPU": 2}
    ray.remote = lambda **_: lambda call: SimpleNamespace(remote=dies)
    ray.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=KeyError)
    cluster = RayTasks(None, Share(1, 0))
    for name in ("wait", "get", "cancel", "shutdown"):
        setattr(ray, name, dies)
    ray.is_initialized = lambda: True
    for use in (lambda: cluster.submit(len, "x"), lambda: cluster.ended([1], 0), lambda: cluster.result(1)):
        with pytest.raises(MachineError, match=r"no longer answers \(Client is shutting down\.\)\. Start it again"):
            use()
    cluster.interrupt([1])
    ray.is_initialized, ray.cancel = lambda: False, lambda _: pytest.fail("it starts a cluster of this machine")
    cluster.interrupt([1])
    with pytest.raises(MachineError, match="it was lost before"):
        cluster.ended([1], 0)
    cluster.close()
