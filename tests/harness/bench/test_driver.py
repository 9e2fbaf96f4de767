"""The driver counts lines and CPU time; it runs here as it does in a guest, with a shell as monitor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from harness.bench import driver
from harness.bench.driver import Lines, Tasks, added


def test_lines_are_counted_whole_and_once(tmp_path: Path) -> None:
    """A line that arrives in two pieces counts when it is whole; what was there before does not count."""
    output = tmp_path / "output"
    output.write_text("open /a\n")
    lines = Lines(str(output), f"^open {re.escape('/a')}$")
    with output.open("a") as file:
        for piece, count in (("open /a", 0), ("\nopen /ab\nopen /a\n", 2), ("open /a\n", 1)):
            file.write(piece)
            file.flush()
            assert lines.read() == count
    assert lines.count == 3


def test_cpu_time_is_read_of_every_other_thread_without_opening_a_file(tmp_path: Path) -> None:
    """A new thread counts from its start, one that ended does not."""
    for pid, tid, time_ns in (("7", "7", 100), ("7", "8", 50), (str(os.getpid()), "1", 9)):
        folder = tmp_path / pid / "task" / tid
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(f"{time_ns} 5 6\n")
    tasks = Tasks(str(tmp_path))
    before = tasks.read()
    assert before == {("7", "7"): 100, ("7", "8"): 50}
    (tmp_path / "7/task/7/schedstat").write_text("160 5 6\n")
    assert added(before, {**tasks.read(), ("9", "9"): 30}) == 90
    assert added(before, {("7", "7"): 160}) == 60


def task(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """A task whose monitor prints the name of each probe."""
    watched, output = tmp_path / "watched", tmp_path / "output"
    watched.mkdir()
    output.write_bytes(b"")
    script = f"while :; do ls {watched} >{output}; sleep 0.01; done"
    return {
        "argv": ["sh", "-c", script],
        "line": "^PATH$",
        "prepare": "",
        "arm": "",
        "folder": "/",
        "wraps": False,
        "watched": str(watched),
        "output": str(output),
        **changes,
    }


def test_a_monitor_that_ends_or_is_missing_cannot_run(tmp_path: Path) -> None:
    """The reason is the last line of its output."""
    with pytest.raises(driver.UnableError, match="no-such-monitor is not in this root"):
        driver.Running(task(tmp_path, argv=["no-such-monitor"]))
    (tmp_path / "watched").rmdir()
    with pytest.raises(driver.UnableError, match=r"^it failed$"):
        driver.Running(task(tmp_path, argv=["sh", "-c", "echo it failed; exit 1"]))


def test_a_script_that_fails_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(driver.UnableError, match="no tracefs"):
        driver.shell("echo no tracefs >&2; false; true")
