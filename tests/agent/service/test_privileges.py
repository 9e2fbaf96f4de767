"""Capabilities are reduced to exactly the needed ones, in a child so that the tests keep theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.service import privileges
from agent.service.privileges import CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, effective, needed

CHILD = """
import json, threading
from agent.service import privileges
privileges.drop(privileges.needed())
privileges.drop(privileges.needed())  # once more changes nothing
found = []
thread = threading.Thread(target=lambda: found.append(open("/proc/thread-self/status").read()))
thread.start(); thread.join()
wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
lines = dict(line.split(":", 1) for line in found[0].splitlines())
print(json.dumps({name: int(lines[name], 16) for name in wanted}))
"""


def in_child() -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to drop")
def test_exactly_what_is_needed_remains_also_in_threads() -> None:
    wanted = sum(1 << cap for cap in needed() & effective())
    assert in_child() == {
        "CapInh": 0,
        "CapPrm": wanted,
        "CapEff": wanted,
        "CapBnd": wanted,
        "CapAmb": 0,
        "NoNewPrivs": 1,
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="a user without capabilities")
def test_a_process_without_capabilities_keeps_none() -> None:
    assert in_child()["CapEff"] == 0


@pytest.mark.parametrize(
    ("release", "old"), [("5.10.0-32-amd64", True), ("5.11.0", False), ("6.1.0", False), ("odd", True)]
)
def test_the_memory_limit_is_lifted_only_if_there_is_one(release: str, *, old: bool) -> None:
    assert (CAP_SYS_RESOURCE in needed(release)) is old


def test_missing_capabilities_are_named(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapEff:\t{1 << CAP_SYS_PTRACE:016x}\n")
    assert effective(status) == {CAP_SYS_PTRACE}
    names = [line.split()[0] for line in privileges.missing(status)]
    assert names[0] == "CAP_DAC_READ_SEARCH"
    assert "CAP_SYS_PTRACE" not in names
    assert CAP_DAC_READ_SEARCH in needed()


def test_every_needed_capability_has_a_name() -> None:
    """In the order of their numbers."""
    assert privileges.names(needed("6.1.0")) == (
        "CAP_DAC_READ_SEARCH",
        "CAP_SYS_PTRACE",
        "CAP_PERFMON",
        "CAP_BPF",
    )
    assert "CAP_SYS_RESOURCE" in privileges.names(needed("5.10.0"))
