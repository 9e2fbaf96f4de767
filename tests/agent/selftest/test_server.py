"""The server answers every line, and runs scenarios with the loaded variant."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import KernelError
from agent.kernel import steps
from agent.selftest.fake import FakeAgent, FakeWorkload
from agent.selftest.protocol import (
    MAX_LINE,
    Bye,
    Hello,
    Load,
    Loaded,
    Ping,
    Pong,
    Quit,
    Ran,
    Refused,
    Reply,
    Request,
    Run,
    Step,
    decode_reply,
    encode,
)
from agent.selftest.runner import Stage
from agent.selftest.server import Loader, Server


def no_loader(_: Load) -> Stage:
    raise AssertionError("no load was expected")


def talk(loader: Loader, *requests: Request | bytes) -> list[Reply]:
    lines = [request if isinstance(request, bytes) else encode(request) for request in requests]
    sink = io.BytesIO()
    Server(io.BytesIO(b"".join(lines)), sink, loader).serve()
    hello, *replies = [decode_reply(line) for line in sink.getvalue().splitlines(keepends=True)]
    assert isinstance(hello, Hello)
    return replies


@pytest.mark.parametrize(("interval_s", "sent"), [(0.0, [Step, Step, Refused]), (1e9, [Refused])])
def test_a_load_that_goes_on_sends_steps(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, sent: list[type[Reply]]
) -> None:
    """Not more often than a harness needs them, and none after the load."""
    monkeypatch.setattr("agent.selftest.server.STEP_S", interval_s)

    def load(_: Load) -> Stage:
        steps.taken()
        steps.taken()
        raise KernelError("refused")

    replies = talk(load, Load(7))
    steps.taken()
    assert [type(reply) for reply in replies] == sent
    assert {reply.id for reply in replies if isinstance(reply, Step)} <= {7}


class Loading:
    """A loader of fake agents that keeps the requests."""

    def __init__(self, generator: Path, where: Path) -> None:
        self.generator = generator
        self.where = where
        self.asked: list[Load] = []
        self.closed = 0

    def __call__(self, request: Load) -> Stage:
        self.asked.append(request)
        agent = self.agent()
        return Stage(agent, lambda s: FakeWorkload(self.generator, s, agent), lambda *_: agent, 1, self.where)

    def agent(self) -> FakeAgent:
        outer = self

        class Counted(FakeAgent):
            def close(self) -> None:
                super().close()
                outer.closed += 1

        return Counted()


@pytest.fixture
def loading(generator: Path, tmp_path: Path) -> Loading:
    return Loading(generator, tmp_path)


def test_a_whole_conversation(loading: Loading) -> None:
    asked = Load(1, "lsm", "kernel", "ringbuf")
    loaded, ran, pong, bye = talk(loading, asked, Run(2, "truth.unlink"), Ping(3), Quit(4))
    assert loading.asked == [asked]
    assert isinstance(loaded, Loaded)
    assert loaded.coverage["open"] == "full"
    assert isinstance(ran, Ran)
    assert (ran.id, ran.name, ran.verdict, ran.reason) == (2, "truth.unlink", "PASS", "")
    assert ran.ledger["unlink"]["generated"] == 2
    assert pong == Pong(3, loaded=True)
    assert isinstance(bye, Bye)
    assert (bye.id, bye.hooks) == (4, loaded.hooks)
    assert loading.closed == 1


@pytest.mark.parametrize("last", [Quit(2), Load(2)])
def test_an_end_that_goes_on_sends_steps(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, last: Request
) -> None:
    """Also if the next load causes it."""
    monkeypatch.setattr("agent.selftest.server.STEP_S", 0.0)
    monkeypatch.setattr(FakeAgent, "close", lambda _agent: steps.taken())
    _, step, *_ = talk(loading, Load(1), last)
    assert step == Step(2)


def test_a_load_replaces_the_one_before(loading: Loading) -> None:
    talk(loading, Load(1), Load(2))
    assert loading.closed == 2  # the second when the input ends


def test_no_scenario_runs_before_a_load() -> None:
    refused, pong = talk(no_loader, Run(7, "truth.open"), Ping(8))
    assert refused == Refused(7, "no variant is loaded", 'send {"do":"load",...} first')
    assert pong == Pong(8, loaded=False)


def test_an_unknown_scenario(loading: Loading) -> None:
    _, refused = talk(loading, Load(1), Run(2, "truth.nothing"))
    assert isinstance(refused, Refused)
    assert "unknown scenario 'truth.nothing'" in refused.error


def test_a_failed_load_is_reported_with_its_evidence(loading: Loading) -> None:
    def refuse(_: Load) -> Stage:
        raise KernelError("the verifier refused open_exit", hint="see below", detail="0: (85) call bpf_x")

    refused, pong = talk(refuse, Load(5), Ping(6))
    assert refused == Refused(5, "the verifier refused open_exit", "see below", "0: (85) call bpf_x")
    assert pong == Pong(6, loaded=False)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=5))
def test_every_line_is_answered(lines: list[bytes]) -> None:
    *refused, pong = talk(no_loader, *lines, Ping(1))
    assert len(refused) == len(lines)
    assert all(isinstance(reply, Refused) for reply in refused)
    assert pong == Pong(1)


def test_a_line_without_end_ends_the_conversation() -> None:
    (refused,) = talk(no_loader, b"x" * (MAX_LINE + 10), Ping(1))
    assert isinstance(refused, Refused)
    assert "more than" in refused.error


def test_a_missing_hook_is_a_skip_with_what_was_observed(loading: Loading) -> None:
    class Blind(FakeAgent):
        def facts(self) -> dict[str, Any]:
            return super().facts() | {
                "coverage": {"open": "full", "unlink": "none"},
                "capabilities": {"lsm": "silent", "kprobe": "load-fail"},
            }

    loading.agent = Blind  # type: ignore[method-assign]
    _, ran = talk(loading, Load(1), Run(2, "truth.unlink"))
    assert isinstance(ran, Ran)
    assert ran.verdict == "SKIP"
    assert ran.reason == "no hook for unlink fires on this kernel (lsm silent, kprobe load-fail)"
