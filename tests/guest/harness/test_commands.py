"""What a developer does with a machine by hand, once for real: exec, shell, --gdb, --keep-on-fail, repro."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from harness.results import results_file
from harness.vm import kept, ownership, qemus

pytestmark = pytest.mark.guest

HARNESS = [sys.executable, "-m", "harness.cli"]
MATRIX = """
kernels: [{name: "6.1", series: "6.1", flavour: cloud}]
suites:
  - {name: fine, command: ["true"]}
  - {name: broken, command: ["sh", "-c", "echo no such luck; exit 3"]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a matrix of one kernel."""
    path = tmp_path_factory.mktemp("place")
    (path / "matrix.yaml").write_text(MATRIX)
    return path


def _harness(place: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HARNESS, *words], cwd=place, input=typed, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def ran(place: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """A run of both suites that keeps the machine of the broken one; whatever a test does, it is ended."""
    yield _harness(place, "run", "--keep-on-fail", "--output", "out")
    kept_machines = [one for folder in ownership.run_directories() for one in kept.alive(folder)]
    for one in [one for one in kept_machines if one.cell == "6.1-broken"]:
        assert list(qemus.kill_by_token(one.machine.rpartition("-")[0]))


def test_a_command_has_its_files_its_output_and_its_status(place: Path) -> None:
    """`exec` is the command: what it prints on either stream, and what it ends with."""
    (place / "given").write_text("of a file\n")
    done = _harness(place, "exec", "--put", "given", "--", "sh", "-c", "cat given; echo wrong >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "of a file\n")
    assert done.stderr.endswith("wrong\n")


def test_stdin_passes_and_a_process_in_the_background_holds_nothing(place: Path) -> None:
    """As with ssh; the whole of stderr arrives, and the machine has the shape that was asked for."""
    script = "cat; nproc; grep -o fim.test=1 /proc/cmdline; seq 1 50000 >&2; sleep 1000 & exit 5"
    words = ["--vcpus", "2", "--cmdline", "fim.test=1", "--", "sh", "-c", script]
    done = _harness(place, "exec", *words, typed="hi\n")
    assert (done.returncode, done.stdout) == (5, "hi\n2\nfim.test=1\n")
    assert done.stderr.endswith("".join(f"{number}\n" for number in range(1, 50_001)))


def test_output_before_a_panic_is_kept_and_the_panic_is_named(place: Path) -> None:
    """With the exit code of a failure that is not the command's."""
    done = _harness(place, "exec", "--", "sh", "-c", "echo before; sync; echo c >/proc/sysrq-trigger")
    assert (done.returncode, done.stdout) == (125, "before\n")
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stderr.splitlines()[-1]


def test_the_agent_proves_itself_in_a_guest(place: Path) -> None:
    """By itself, without the harness: a table that fits on a screen."""
    proof = "cd /opt/fim && python3 -m agent selftest --test 'truth.*' --test 'approvers.*'"
    done = _harness(place, "exec", "--agent", "--", "sh", "-c", proof)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"\d+ scenarios: \d+ PASS(, \d+ SKIP)?, in [\d.]+ s", lines[-1])
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 79


def test_the_machine_of_a_failed_cell_can_be_entered(
    place: Path, ran: subprocess.CompletedProcess[str]
) -> None:
    """The run prints the command; the kernel in the guest is the one of the results."""
    assert ran.returncode == 1, ran.stderr
    assert "kept: harness shell --attach 6.1-broken" in ran.stdout
    done = _harness(place, "shell", "--attach", "6.1-broken", typed="uname -r\n")
    found = results_file.load(place / "out/results.json")
    assert done.stdout.split() == [found.cells[0].kernel.release]


def test_a_cell_runs_again_on_the_packages_that_it_had(
    place: Path, ran: subprocess.CompletedProcess[str]
) -> None:
    """By their hashes, from the cache; the one that failed fails again, for the same reason."""
    assert ran.returncode == 1, ran.stderr
    done = _harness(place, "repro", "out", "6.1-broken", "--output", "again")
    assert done.returncode == 1, done.stderr
    assert "the same packages, from the cache" in done.stderr
    before, again = (results_file.load(place / name / "results.json") for name in ("out", "again"))
    (broken,) = (cell for cell in before.cells if cell.id == "6.1-broken")
    assert again.cells[0].kernel == broken.kernel
    assert again.cells[0].tests[0].reason == broken.tests[0].reason == "exit status 3: no such luck"


def test_the_kernel_of_a_shell_is_under_a_debugger(place: Path) -> None:
    """The port that is named is that of a stub, which stops the guest and lets it go on."""
    with _typing(place, "shell", "--gdb") as (typed, printed, stderr):
        text = ""
        while "leave with exit" not in text:
            text += (line := stderr.readline())
            assert line, text
        (port,) = re.findall(r"target remote 127\.0\.0\.1:(\d+)", text)
        with socket.create_connection(("127.0.0.1", int(port)), 30) as stub:
            stub.sendall(b"+$?#3f")
            assert re.search(rb"\$[TS]05", _answer(stub))
            stub.sendall(b"+$D#44")
            assert b"$OK#" in _answer(stub)
        typed.write("uname -s\nexit\n")
        typed.flush()
        assert printed.readline() == "Linux\n"


def _answer(stub: socket.socket) -> bytes:
    """One packet of GDB's remote protocol: `$...#` and two digits."""
    data = b""
    while not re.search(rb"#..$", data):
        more = stub.recv(4096)
        assert more, data
        data += more
    return data


@contextmanager
def _typing(place: Path, *words: str) -> Iterator[tuple[IO[str], IO[str], IO[str]]]:
    """A command's three streams; it is ended afterwards."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*HARNESS, *words], cwd=place, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        try:
            yield running.stdin, running.stdout, running.stderr
        finally:
            running.terminate()
