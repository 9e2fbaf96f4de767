"""The processes that a worker starts by a fork, and whose turn it is."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.cluster import child
from harness.cluster.child import Child, Turns
from harness.cluster.forking import Forker
from harness.errors import InfrastructureError
from harness.host import deadlines
from tests.harness.cluster import forked
from tests.harness.cluster.place import exists, kill


@pytest.fixture
def errors() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


@pytest.fixture
def forker() -> Iterator[Forker]:
    with contextlib.closing(Forker(child.MODULE)) as made:
        yield made


def ended(started: Child) -> tuple[list[bytes], str]:
    lines = list(started.lines(lambda: True))
    return lines, started.wait()


def parent_of(started: Child) -> int:
    return int(Path(f"/proc/{started._pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_program_of_a_worker_can_be_started(forker: Forker, errors: BinaryIO) -> None:
    """Tests with fake machines replace it."""
    lines, how = ended(Child(forker, ["worker", "--help"], errors))
    assert (lines[0].split()[0], how) == (b"usage:", "ended with exit code 0")


def test_the_exit_code_and_the_last_error_of_a_child(
    forker: Forker, errors: BinaryIO, tmp_path: Path
) -> None:
    started = Child(forker, ["run", "--part", tmp_path / "absent", "--output", "x"], errors)
    _, how = ended(started)
    assert started.code == 2
    assert how.startswith(f"ended with exit code 2: {tmp_path}/absent: not the part of a run")


def test_a_child_that_is_killed(forker: Forker, errors: BinaryIO) -> None:
    started = Child(forker, ["worker", "--facts"], errors)
    kill(started._pid)
    assert ended(started)[1] == "was killed by SIGKILL"


def test_another_process_forks_after_one_was_killed(forker: Forker, errors: BinaryIO) -> None:
    """A child outlives the process that started it, and how it ends is then unknown, but when is not."""
    first, beside = (Child(forker, ["worker", "--facts"], errors) for _ in range(2))
    os.kill(first._pid, signal.SIGSTOP)
    os.kill(beside._pid, signal.SIGSTOP)
    killed = parent_of(first)
    kill(killed)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    second = Child(forker, ["worker", "--help"], errors)
    assert ended(second)[1] == "ended with exit code 0"
    os.kill(first._pid, signal.SIGCONT)
    lines, how = ended(first)
    assert (len(lines), how.split(",")[0]) == (1, "ended in an unknown way")
    kill(beside._pid)
    ended(beside)


def test_a_program_that_cannot_be_started(errors: BinaryIO) -> None:
    with (
        contextlib.closing(Forker("absent")) as forker,
        pytest.raises(InfrastructureError, match=r"no process can be started: .*No module named absent"),
    ):
        Child(forker, ["worker", "--help"], errors)


@pytest.fixture
def bad() -> Iterator[Forker]:
    with contextlib.closing(Forker(forked.__name__)) as made:
        yield made


def test_a_child_that_leaves_a_program_has_ended(bad: Forker, errors: BinaryIO) -> None:
    """The program that it left holds its standard output open, and writes nothing."""
    lines, how = ended(Child(bad, ["leave"], errors))
    program = int(lines[0])
    assert exists(program)
    kill(program)
    assert how == "ended with exit code 7"


def test_a_child_that_closes_its_output_and_hangs(
    bad: Forker, errors: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when it is not wanted any more."""
    monkeypatch.setattr(deadlines, "CHILD_EXIT_S", 0.1)
    looks = iter([True] * 3)
    started = Child(bad, ["hang"], errors)
    assert list(started.lines(lambda: next(looks, False))) == []
    assert started.wait() == "was killed by SIGKILL"


def test_a_child_that_is_not_wanted_never_waits_for_room_in_its_pipe(bad: Forker, errors: BinaryIO) -> None:
    """It has more to write than the pipe holds, and ends by itself."""
    started = Child(bad, ["fill"], errors)
    assert list(started.lines(lambda: False)) == []
    assert started.wait() == "ended with exit code 7"


def test_a_child_has_only_its_own_descriptors(bad: Forker, errors: BinaryIO) -> None:
    """None of a sister that runs: it would keep the worker waiting for the end of that one."""
    sister = Child(bad, ["hang"], errors)
    first, how = ended(Child(bad, ["descriptors"], errors))
    assert how == "ended with exit code 7"
    kill(sister._pid)
    assert sister.wait() == "was killed by SIGKILL"
    assert first == ended(Child(bad, ["descriptors"], errors))[0]


def test_a_fork_that_fails_costs_no_other_child(
    bad: Forker, errors: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of processes is reached: how the children end that run already stays known."""
    monkeypatch.setenv("FORKED_MOST", "1")
    first = Child(bad, ["hang"], errors)
    for _ in range(2):
        with pytest.raises(InfrastructureError, match="no process can be started: Resource temporarily"):
            Child(bad, ["descriptors"], errors)
    kill(first._pid)
    assert first.wait() == "was killed by SIGKILL"


def test_no_child_stays_a_zombie(bad: Forker, errors: BinaryIO) -> None:
    children = [Child(bad, ["descriptors"], errors) for _ in range(3)]
    pids = [one._pid for one in children]
    for one in children:
        assert ended(one)[1] == "ended with exit code 7"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


class Waiting:
    """A child as far as its turn goes."""

    def __init__(self) -> None:
        self.went = False

    def go(self) -> None:
        self.went = True


def test_one_child_after_the_other() -> None:
    """In the order in which their parts came, however long each needs to start."""
    turns = Turns()
    children = [Waiting() for _ in range(3)]
    stacks = [contextlib.ExitStack() for _ in children]
    begun = [stack.enter_context(turns.turn()) for stack in stacks]

    def after(number: int) -> list[bool]:
        begun[number].begin(children[number])  # type: ignore[arg-type]
        return [one.went for one in children]

    assert after(1) == [False, False, False]
    assert after(0) == [True, False, False]
    assert after(2) == [True, False, False]
    begun[0].end()  # its machine is destroyed, and it writes its results
    assert [one.went for one in children] == [True, True, False]
    stacks[0].close()
    assert [one.went for one in children] == [True, True, False]
    stacks[1].close()
    assert [one.went for one in children] == [True, True, True]


def test_a_child_that_ends_before_its_turn() -> None:
    turns = Turns()
    first, second, third = Waiting(), Waiting(), Waiting()
    with turns.turn() as turn_of_first:
        turn_of_first.begin(first)  # type: ignore[arg-type]
        with turns.turn() as turn:
            turn.begin(second)  # type: ignore[arg-type]
        with turns.turn() as turn:
            turn.begin(third)  # type: ignore[arg-type]
            assert not third.went
    assert (first.went, second.went, third.went) == (True, False, False)
