"""However a run of real machines ends, it leaves its results and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host.cache import default_root
from harness.host.signals import REASONS
from harness.results import results_file
from tests import ROOT
from tests.guest.harness.place import Harness, Place

pytestmark = pytest.mark.guest

KERNEL = ("--kernel", "6.1")
MATRIX = ("--matrix", str(ROOT / "matrix.yaml"))
FIRST, LONG = "truth.open", "loss.burst"
ONE = ("--hookset", "auto", "--test", FIRST)
SLEEP = ("sh", "-c", "echo here: now >/dev/kmsg; exec sleep 86400")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def place() -> Iterator[Place]:
    """A place with a copy of the cache; files of a test are removed at its end."""
    with tempfile.TemporaryDirectory(prefix="fim-", dir=default_root().parent) as folder:
        made = Place(Path(folder))
        made.fill()
        yield made
        subprocess.run(
            [sys.executable, "-m", "harness.cli", "clean", "--machines"],
            env=made.environment,
            check=False,
            capture_output=True,
        )


@pytest.fixture
def start(place: Place) -> Iterator[list[Harness]]:
    """Start a command that is ended with the test."""
    started: list[Harness] = []
    yield started
    for one in started:
        one.close()


@pytest.mark.parametrize("number", SIGNALS)
def test_run(place: Place, start: list[Harness], number: signal.Signals) -> None:
    """Tests that ran have a verdict, the others are NOT_RUN with the reason, and the run is incomplete."""
    tests = ("--test", FIRST, "--test", LONG)
    start.append(place.start("run", *MATRIX, *KERNEL, "--hookset", "auto", *tests))
    start[0].wait_for(lambda: place.printed(f"begin {LONG}"))
    start[0].end(number)
    assert start[0].process.returncode == 4, start[0].output()
    found = results_file.load(place.work / "out" / "latest" / "results.json")
    verdicts = {test.name: (str(test.verdict), test.reason) for cell in found.cells for test in cell.tests}
    assert verdicts[FIRST] == ("PASS", "")
    assert verdicts[LONG][0] == "NOT_RUN"
    assert verdicts[LONG][1] == REASONS[number]
    assert place.left() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_exec(place: Place, start: list[Harness], number: signal.Signals) -> None:
    """The harness does not wait for the command in the guest."""
    start.append(place.start("exec", *MATRIX, *KERNEL, "--", *SLEEP))
    start[0].wait_for(lambda: place.printed("here: now"))
    start[0].end(number)
    assert start[0].process.returncode not in (0, 1)
    assert place.left() == []


def test_shell(place: Place, start: list[Harness]) -> None:
    """A shell that SIGTERM ends leaves no machine."""
    start.append(place.start("shell", *MATRIX, *KERNEL, terminal=True))
    start[0].wait_for(lambda: "leave with exit" in start[0].output())
    start[0].end(signal.SIGTERM)
    assert start[0].process.returncode != 0
    assert place.left() == []


def test_cold_boot(place: Place, start: list[Harness]) -> None:
    """Ctrl-C during the boot of a machine leaves no machine."""
    start.append(place.start("exec", *MATRIX, *KERNEL, "--cold", "--", "true"))
    start[0].wait_for(lambda: place.printed("Linux version"))
    start[0].end(signal.SIGINT)
    assert start[0].process.returncode not in (0, 1)
    assert place.left() == []


def ends_its_run(place: Place, name: str) -> Path:
    """Put a QEMU first on PATH that sends this signal to the process named in a file before it starts."""
    pid_file, real = place.folder / "pid", shutil.which("qemu-system-x86_64")
    wrapper = place.folder / "bin" / "qemu-system-x86_64"
    wrapper.parent.mkdir()
    wait = f"until [ -s '{pid_file}' ]; do sleep 0.1; done"
    send = f"case \"$*\" in *guest=*) {wait}; kill -{name} $(cat '{pid_file}');; esac"
    wrapper.write_text(f'#!/bin/sh\n{send}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    place.environment["PATH"] = f"{wrapper.parent}:{place.environment['PATH']}"
    return pid_file


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL"])
def test_a_signal_while_libvirt_starts_qemu(place: Place, start: list[Harness], name: str) -> None:
    """No QEMU outlives its run directory; after SIGKILL the next command ends what was left."""
    pid_file = ends_its_run(place, name)
    start.append(place.start("exec", *MATRIX, *KERNEL, "--", "true"))
    pid_file.write_text(str(start[0].process.pid))
    assert start[0].wait() not in (0, 1), start[0].output()
    if name == "KILL":
        start.append(place.start("clean", "--machines"))
        assert start[1].wait() == 0, start[1].output()
    assert [*place.qemus(), *place.runtime.glob("*/*")] == []


def test_sigkill_then_clean(place: Place, start: list[Harness]) -> None:
    """No process can handle SIGKILL; `harness clean` ends what the run left, and leaves no file."""
    start.append(place.start("exec", *MATRIX, *KERNEL, "--", *SLEEP))
    start[0].wait_for(lambda: place.printed("here: now"))
    start[0].end(signal.SIGKILL)
    assert len(place.qemus()) == 1
    start.append(place.start("clean"))
    assert start[1].wait() == 0, start[1].output()
    assert "1 QEMU" in start[1].output()
    assert place.qemus() == []
    assert list(place.runtime.glob("*/*")) == []
    assert [path for path in place.cache.rglob("*") if path.is_file()] == []


def test_two_runs_at_once(place: Place, start: list[Harness]) -> None:
    """In one folder, whose path has a space; both are complete, and neither ends the other's machine."""
    words = ("run", *MATRIX, *KERNEL, *ONE)
    start += [place.start(*words), place.start(*words)]
    assert [one.wait() for one in start] == [0, 0], start[-1].output()
    paths = place.work.glob("out/*/results.json")
    found = [results_file.load(path) for path in paths if not path.parent.is_symlink()]
    assert len({one.run.id for one in found}) == 2
    assert all(one.run.complete and one.totals == {"PASS": 1} for one in found)
    assert place.left() == []


@pytest.fixture
def small(place: Place) -> Iterator[Path]:
    """A small disk, which is soon full."""
    disk = place.folder / "a small disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: not root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_output_on_a_full_disk(place: Place, start: list[Harness], small: Path) -> None:
    """It is an infrastructure error in one line, and no machine is left behind."""
    start.append(place.start("run", *MATRIX, *KERNEL, *ONE, "--output", str(small)))
    assert start[0].wait() == 3, start[0].output()
    assert "Traceback" not in start[0].output()
    assert "o space left" in start[0].output()
    assert place.left() == []


def test_cache_on_a_full_disk(place: Place, start: list[Harness], small: Path) -> None:
    """No image can be made: the error is one line with the remedy."""
    place.environment["XDG_CACHE_HOME"] = str(small)
    (small / "fim-harness").mkdir()
    for kind in ("apt", "kernels", "acceleration", "libvirt"):
        (small / "fim-harness" / kind).symlink_to(default_root() / kind)
    start.append(place.start("run", *MATRIX, *KERNEL, *ONE))
    assert start[0].wait() == 3, start[0].output()
    assert "Traceback" not in start[0].output()
    assert "no disk space" in start[0].output()
    assert place.left() == []
