"""An operation that the kernel looks up again is reported with what the last lookup reached."""

from __future__ import annotations

from pathlib import Path

from agent.events.model import EventType
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves
from agent.selftest.stale import served


def _check_stale(bench: Bench, rule: str, line: str) -> None:
    """Make a call whose second lookup reaches the file of the rule, and whose first one a stale file."""
    Path(bench.path("real")).mkdir()
    path = bench.path("real/x") if "O_CREAT" in line else bench.file("real/x")
    with served(Path(bench.path("fs")), bench.path("real")) as server:
        bench.rules(wanted=f'{rule}.file.path == "{path}"')
        played = bench.play(line.format(bench.path("fs")))
    bench.also_made(EventType[rule.upper()], 1)  # the first object, which was seen and rejected
    bench.equal("answers of ESTALE", 1, server.stale)
    bench.arrives_once(played, "wanted", {"file.path": path.encode(), "retval": 0})


@proves("stale.open")
def stale_open(bench: Bench) -> None:
    """Open a file."""
    _check_stale(bench, "open", "open {}/link O_RDONLY -> $0\nclose $0\n")


@proves("stale.create")
def stale_create(bench: Bench) -> None:
    """Open a file that the second lookup creates."""
    _check_stale(bench, "open", "open {}/link O_WRONLY|O_CREAT 0600 -> $0\nclose $0\n")


@proves("stale.unlink")
def stale_unlink(bench: Bench) -> None:
    """Remove a file."""
    _check_stale(bench, "unlink", "unlink {}/d/x\n")


@proves("stale.chmod")
def stale_chmod(bench: Bench) -> None:
    """Change the mode of a file."""
    _check_stale(bench, "chmod", "chmod {}/link 0600\n")
