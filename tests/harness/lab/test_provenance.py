"""Every cell of a run tests the same agent, and the results name it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InfrastructureError, MissingError
from harness.guest.base import Completed
from harness.host import cache
from harness.host.cache import Cache
from harness.lab import provenance, supplies
from harness.lab.lab import VmMachine
from harness.lab.supplies import Preparation
from tests.harness.guest.fake import FakeGuest


def archive(**files: bytes) -> bytes:
    """Make a bundle of these files; `x__o` is called `agent/x.o`."""
    return _named({f"agent/{name.replace('__', '.')}": data for name, data in files.items()})


def _named(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return whole.getvalue()


def test_results_name_the_bundle_and_each_object() -> None:
    """By SHA-256, without bytecode, which differs from one compilation to the next."""
    one = provenance.contents(archive(a__py=b"1", fim__o=b"object", a__pyc=b"x"))
    other = provenance.contents(archive(fim__o=b"object", a__pyc=b"y", a__py=b"1"))
    assert one["agent/fim.o"] == hashlib.sha256(b"object").hexdigest()
    assert provenance.digest_of(one) == provenance.digest_of(other)
    assert provenance.digest_of(one) != provenance.digest_of({**one, "agent/a.py": "2"})


def test_what_is_built_during_a_run_is_not_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is deployed late gets the bundle that was stored before the first boot."""
    monkeypatch.setattr(cache, "default_root", lambda: tmp_path)
    builds = [archive(a__py=b"first"), archive(a__py=b"saved meanwhile")]
    monkeypatch.setattr("harness.lab.supplies.build", lambda _sources: builds.pop(0))
    agent = Preparation("tcg", lambda _: None)._agent(["amd64"])
    supplies.bundle.cache_clear()
    supplies.bundle()  # another process, after `make build`
    guest = FakeGuest(lambda _argv: Completed(0, b"", b""))
    machine = _machine(guest)
    machine.agent = agent
    machine.deploy()
    (deployed,) = guest.files.values()
    assert provenance.digest_of(provenance.contents(deployed)) == agent.bundle
    assert provenance.member(deployed, "agent/a.py") == b"first"
    supplies.bundle.cache_clear()


def test_an_object_of_another_architecture_changes_only_the_whole_digest(tmp_path: Path) -> None:
    """Shards with other architectures have other bundles of one agent: what is not compiled is the same."""
    builds = [{"arm64/a.o": b"1"}, {"arm64/a.o": b"1", "amd64/a.o": b"2"}]
    store = Cache(tmp_path)
    one, two = (provenance.keep(_named({"agent/a.py": b"x", **files}), tmp_path, store) for files in builds)
    assert one.bundle != two.bundle
    assert one.common == two.common
    assert set(two.objects) == {"arm64/a.o", "amd64/a.o"}


def test_an_agent_that_is_gone_from_the_cache_is_not_replaced(tmp_path: Path) -> None:
    """The agent that is built now may be another one."""
    agent = provenance.keep(archive(a__py=b"1"), tmp_path, Cache(tmp_path))
    with pytest.raises(InfrastructureError, match="is no longer in the cache"):
        provenance.kept(agent, Cache(tmp_path / "another"))


def test_a_commit_is_clean_until_a_file_changes(tmp_path: Path) -> None:
    """A tree without git, or inside the checkout of another project, has no commit."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").touch()
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    commit, clean = provenance.commit_of(tmp_path)
    assert (len(commit), clean) == (40, True)
    (tmp_path / "file").write_text("changed")
    assert provenance.commit_of(tmp_path) == (commit, False)
    (tmp_path / "below").mkdir()
    assert provenance.commit_of(tmp_path / "below") == ("", None)


def _machine(guest: FakeGuest) -> VmMachine:
    starter: Any = SimpleNamespace(machine=SimpleNamespace(guest=guest, spec=SimpleNamespace(state_mib=0)))
    return VmMachine(starter)


@pytest.mark.parametrize(("resolved", "wrong"), [("6.1.0-1", False), ("6.1.0-2", True), ("", False)])
def test_a_guest_with_another_kernel_is_not_tested(resolved: str, wrong: bool) -> None:
    """The guest's own release is compared with the resolved one, and recorded."""
    output = b"1.0\n==\n1.1\n==\n6.1.0-1\n==\n==\n==\n"
    machine = _machine(FakeGuest(lambda _argv: Completed(0, output, b"")))
    machine.release = resolved
    if wrong:
        with pytest.raises(MissingError, match=r"the guest runs kernel 6\.1\.0-1 instead of 6\.1\.0-2"):
            machine.slowness()
    else:
        machine.slowness()
    assert machine.uname == "6.1.0-1"
