"""Drifted hooks: a copy of the agent expects functions and arguments that no kernel has."""

from __future__ import annotations

import re

import pytest

from harness.guest.base import Guest

pytestmark = pytest.mark.guest

_TIMEOUT_S = 300
_COPY = "/opt/drifted"
_AGENT = f"cd {_COPY} && python3 -m agent"
_RULES = b'{"rules": [{"id": "any", "expression": "open.flags & O_CREAT > 0"}]}'

# Edits of the copy: functions that no kernel has; and the directory entry expected before its directory.
_GONE = 's/"filename_renameat2", "do_renameat2"/"no_such_function", "nor_this"/'
_MOVED = 's/^_ENTRY = ("dir", "dentry")/_ENTRY = ("dentry", "dir")/'


def drifted(guest: Guest, edit: str) -> None:
    """Make a copy of the agent with an edited table of hooks, without its bytecode."""
    script = (
        f"rm -rf {_COPY} && mkdir {_COPY} && cp -r /opt/fim/agent {_COPY} && "
        f"cd {_COPY}/agent/hooks && rm __pycache__/points.* && cp points.py /tmp/points.py && "
        f"sed -i '{edit}' points.py && ! cmp -s /tmp/points.py points.py"
    )
    done = guest.run(["sh", "-c", script], _TIMEOUT_S)
    assert done.status == 0, done.stderr


def refused(guest: Guest, hookset: str) -> str:
    """Return the errors of an agent that does not start because its minimum is not met."""
    guest.put_bytes(_RULES, "/root/drift.yaml")
    command = f"{_AGENT} run --rules /root/drift.yaml --output - --hookset {hookset}"
    done = guest.run(["sh", "-c", command], _TIMEOUT_S)
    assert done.status == 4, done
    return done.stderr.decode()


def test_a_missing_function(guest: Guest) -> None:
    """An agent with a forced set does not start, and names the missing hooks and all attempts."""
    drifted(guest, _GONE)
    error = refused(guest, "kprobe")
    assert "hook set kprobe: this kernel does not serve rename.enter, rename.exit" in error
    for hook, kind in (("rename.enter", "kprobe"), ("rename.exit", "kretprobe")):
        assert f"{hook} by {kind}: absent: this kernel has no usable no_such_function or nor_this" in error


def test_an_argument_that_moved(guest: Guest) -> None:
    """The error names the hook and the argument."""
    drifted(guest, _MOVED)
    error = refused(guest, "kprobe")
    assert "does not serve unlink.resolve" in error
    moved = "drifted: its argument dentry is number 2 here, not 1"
    assert f"unlink.resolve by kprobe at security_path_unlink: {moved}" in error


def test_auto_sees_a_drifted_hook_by_system_calls(guest: Guest) -> None:
    """With `auto` the agent sees renames by their system calls, and reports degraded coverage."""
    drifted(guest, _GONE)
    done = guest.run(["sh", "-c", f"{_AGENT} selftest --test truth.rename --test truth.unlink"], _TIMEOUT_S)
    assert done.status == 0, done
    output = done.stdout.decode()
    assert "degraded" in output


def test_probe_prints_the_coverage_of_each_set(guest: Guest) -> None:
    """With the limits of the tracepoint set, and that of preempted programs on kernels with that flaw."""
    done = guest.run(["sh", "-c", "cd /opt/fim && python3 -m agent probe"], _TIMEOUT_S)
    assert done.status == 0, done
    output = done.stdout.decode()
    block = output.partition("hook set tracepoint:\n")[2]
    assert "seen only in the arguments of system calls" in block
    whole = block.startswith("    coverage: full exec, fork, exit; degraded open, close")
    skips = re.search(r"^skips +fires", output, re.MULTILINE) is not None
    assert whole is not skips
    assert ("a preempted program hides events" in block) is skips
