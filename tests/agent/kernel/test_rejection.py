"""A rejection ends with its cause: the verifier's statistics follow it in the log."""

from __future__ import annotations

import pytest

from agent.kernel.libbpf import Object, Program
from tests.agent.kernel.conftest import REFUSED

CAUSE = "R1 invalid mem access 'scalar'"
BEFORE_7_3 = (
    "verification time 812 usec\nstack depth 24+0+8\n"
    "processed 48 insns (limit 1000000) max_states_per_insn 0 total_states 4 peak_states 4 mark_read 1\n"
)


@pytest.fixture
def program(opened: Object) -> Program:
    return opened.programs["fentry__open__resolve"]


@pytest.mark.parametrize(
    ("log", "last"),
    [
        (REFUSED.read_text("ascii"), "invalid read from stack R10 off=-520 size=8"),
        (f"{CAUSE}\n{BEFORE_7_3}\n", CAUSE),
        (f"{BEFORE_7_3}{CAUSE}", CAUSE),
        (BEFORE_7_3, ""),
    ],
    ids=["7.3", "before", "no statistics", "only statistics"],
)
def test_the_last_line_is_the_cause(
    program: Program, monkeypatch: pytest.MonkeyPatch, log: str, last: str
) -> None:
    """Of 60 lines of a real log the last 43 are statistics."""
    monkeypatch.setattr(program, "log", lambda: log)
    assert program.rejection().rpartition("\n")[2] == last
    assert program.processed() == 48
