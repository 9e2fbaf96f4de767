"""Files that are sent to a worker by their digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cluster import part, plugin
from harness.cluster.plugin import HarnessPlugin
from harness.errors import InfrastructureError
from harness.host.cache import Cache


@pytest.fixture
def worker(tmp_path: Path) -> HarnessPlugin:
    """A worker's plugin as far as files go."""
    made = HarnessPlugin("unused")
    made._store = Cache(tmp_path / "cache")
    made._partial = tmp_path / "partial"
    made._partial.mkdir()
    return made


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "CHUNK", 3)


@pytest.mark.parametrize("data", [b"", b"abc", b"abcd", b"abcdefg"])
def test_a_file_arrives_in_pieces(worker: HarnessPlugin, data: bytes) -> None:
    digest = part.digest(data)
    assert worker.missing([digest]) == [digest]
    for chunk in plugin.chunks(data):
        worker.receive("run", digest, chunk)
    assert worker._blob(digest).read_bytes() == data
    assert worker.missing([digest]) == []
    assert list(worker._partial.iterdir()) == []


def test_two_clients_send_the_same_file_at_the_same_time(worker: HarnessPlugin) -> None:
    data = b"abcdefg"
    digest = part.digest(data)
    for chunk in plugin.chunks(data):
        worker.receive("one", digest, chunk)
        worker.receive("two", digest, chunk)
    assert worker._blob(digest).read_bytes() == data


def test_a_client_that_begins_again(worker: HarnessPlugin) -> None:
    """The first time its connection was lost in the middle."""
    data = b"abcdefg"
    digest = part.digest(data)
    worker.receive("run", digest, next(plugin.chunks(data)))
    for chunk in plugin.chunks(data):
        worker.receive("run", digest, chunk)
    assert worker._blob(digest).read_bytes() == data


def test_a_damaged_file_is_refused(worker: HarnessPlugin) -> None:
    """And nothing of it stays."""
    digest = part.digest(b"abcdefg")
    *first, last = plugin.chunks(b"abcdefx")
    for chunk in first:
        worker.receive("run", digest, chunk)
    with pytest.raises(InfrastructureError, match="was damaged on its way"):
        worker.receive("run", digest, last)
    assert worker.missing([digest]) == [digest]
    assert list(worker._partial.iterdir()) == []
    with pytest.raises(InfrastructureError, match="was not sent to this worker"):
        worker._blob(digest)
