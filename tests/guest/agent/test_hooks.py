"""Hooks that have drifted: a copy of the agent expects of them what no kernel has."""

from __future__ import annotations

import re

import pytest

from harness.guest.base import Guest

pytestmark = pytest.mark.guest

_TIMEOUT_S = 300
_COPY = "/opt/drifted"
_AGENT = f"cd {_COPY} && python3 -m agent"
_RULES = b'{"rules": [{"id": "any", "expression": "open.flags & O_CREAT > 0"}]}'

# In the copy: no kernel has such functions; and the entry is said to come before its directory.
_GONE = 's/"filename_renameat2", "do_renameat2"/"no_such_function", "nor_this"/'
_MOVED = 's/^_ENTRY = ("dir", "dentry")/_ENTRY = ("dentry", "dir")/'


def drifted(guest: Guest, edit: str) -> None:
    """Put a copy of the agent aside whose hook table was edited; its bytecode would hide that."""
    script = (
        f"rm -rf {_COPY} && mkdir {_COPY} && cp -r /opt/fim/agent {_COPY} && "
        f"cd {_COPY}/agent/hooks && rm __pycache__/points.* && cp points.py /tmp/points.py && "
        f"sed -i '{edit}' points.py && ! cmp -s /tmp/points.py points.py"
    )
    done = guest.run(["sh", "-c", script], _TIMEOUT_S)
    assert done.status == 0, done.stderr


def refused(guest: Guest, hookset: str) -> str:
    """What an agent says that does not start; its status must be that of a minimum that is not met."""
    guest.put_bytes(_RULES, "/root/drift.yaml")
    command = f"{_AGENT} run --rules /root/drift.yaml --output - --hookset {hookset}"
    done = guest.run(["sh", "-c", command], _TIMEOUT_S)
    assert done.status == 4, done
    return done.stderr.decode()


def test_a_name_that_is_gone(guest: Guest) -> None:
    """A forced set does not start and says which hooks it lacks, and what was tried for each."""
    drifted(guest, _GONE)
    said = refused(guest, "kprobe")
    assert "hook set kprobe: this kernel does not serve rename.enter, rename.exit" in said
    for hook, kind in (("rename.enter", "kprobe"), ("rename.exit", "kretprobe")):
        assert f"{hook} by {kind}: absent: this kernel has no usable no_such_function or nor_this" in said


def test_an_argument_that_moved(guest: Guest) -> None:
    """The hook and the argument are named; what the program would read there is not read."""
    drifted(guest, _MOVED)
    said = refused(guest, "kprobe")
    assert "does not serve unlink.resolve" in said
    moved = "drifted: its argument dentry is number 2 here, not 1"
    assert f"unlink.resolve by kprobe at security_path_unlink: {moved}" in said


def test_what_drifted_is_told_by_system_calls(guest: Guest) -> None:
    """Left to choose, the agent sees renames all the same, and says that they are in the caller's words."""
    drifted(guest, _GONE)
    done = guest.run(["sh", "-c", f"{_AGENT} selftest --test truth.rename --test truth.unlink"], _TIMEOUT_S)
    assert done.status == 0, done
    told = done.stdout.decode()
    assert "degraded" in told


def test_probe_says_what_each_set_would_see(guest: Guest) -> None:
    """With the words of what it cannot see; of what preempted ones hide only where they do."""
    done = guest.run(["sh", "-c", "cd /opt/fim && python3 -m agent probe"], _TIMEOUT_S)
    assert done.status == 0, done
    told = done.stdout.decode()
    block = told.partition("hook set tracepoint:\n")[2]
    assert "seen only in the arguments of system calls" in block
    whole = block.startswith("    coverage: full exec, fork, exit; degraded open, close")
    skips = re.search(r"^skips +fires", told, re.MULTILINE) is not None
    assert whole is not skips
    assert ("a preempted program hides events" in block) is skips
