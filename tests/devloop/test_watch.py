"""The developer's loop: a save is built, sent as far as it changed, and tested on the machine that stays."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import harness.fakes
from harness import sources, supply
from harness.errors import ConfigError, HarnessError
from harness.fakes import FakeBench, FakeMachine
from harness.guest import update
from harness.guest.base import Completed
from harness.guest.fake import FakeGuest
from harness.guest.selftest import STAND_BY
from harness.guest.update import Member
from harness.plan import Selectors
from harness.report.terminal import Lines
from harness.run import Options, Run
from harness.watch import Watch, events_of

OBJECT = "agent/bpf/fim.bpf.o"
SCENARIO = "agent/selftest/scenarios/truth.py"


class ServedMachine(FakeMachine):
    """A fake whose server is seen to come and go; `serve` is a step of the script."""

    def selftest(self, log: Path, deadline_s: float) -> FakeMachine:
        self.bench.note(f"serve {self.cell.machine}")
        self._play("serve")
        return super().selftest(log, deadline_s)

    def stand_by(self) -> None:
        self.bench.note(f"stand by {self.cell.machine}")

    def close(self) -> HarnessError | None:
        self.bench.note(f"quit {self.cell.id}")
        return super().close()


class Loop:
    """A project that is edited between two looks of a watch."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = tmp_path / "log"
        self.source = tmp_path / "bpf/open.h"
        self.source.parent.mkdir()
        self.source.write_text("one")
        self.bench = FakeBench({}, self.log)
        self.guest = FakeGuest()
        self.files = {OBJECT: Member(b"one", 0o644), "agent/cli.py": Member(b"py", 0o644)}
        self.problem = ""
        self.out = io.StringIO()
        monkeypatch.setattr(ServedMachine, "guest", self.guest, raising=False)
        monkeypatch.setattr(harness.fakes, "FakeMachine", ServedMachine)
        (tmp_path / "matrix.yaml").write_text("kernels: [6.1]\n")
        self.tmp_path = tmp_path

    def run(self, *edits: Iterator[None]) -> int:
        """Watch, with an edit at each look, until there are none left."""
        options = Options(
            matrix=self.tmp_path / "matrix.yaml",
            selectors=Selectors(test=("truth.open", "truth.unlink", "truth.rename")),
            output=self.tmp_path / "out",
        )
        run = Run(options, self.bench)
        run.prepare(lambda _line: None)
        seen = sources.snapshot([self.source.parent])
        watch = Watch(
            run,
            Lines(Console(file=self.out, width=200)),
            folders=[self.source.parent],
            build=lambda: self.problem,
            files=lambda: dict(self.files),
        )
        left = iter(edits)

        def wait(_seconds: float) -> None:
            try:
                next(next(left))
            except StopIteration:
                raise KeyboardInterrupt from None

        return watch.forever(seen, wait)

    def edit(
        self, *, problem: str = "", script: dict[str, str] | None = None, **files: bytes
    ) -> Iterator[None]:
        """Save the source; what is built of it then are `files`, and what happens is `script`."""
        self.source.write_text(self.source.read_text() + "+")
        names = {"object": OBJECT, "python": "agent/cli.py", "scenario": SCENARIO}
        self.files |= {names[name]: Member(data, 0o644) for name, data in files.items()}
        self.problem = problem
        self.bench.script = script or {}
        yield

    @property
    def events(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [line.partition(" ")[2] for line in lines]

    @property
    def said(self) -> str:
        return self.out.getvalue()


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(tmp_path, monkeypatch)


def test_the_machine_stays_up_and_only_what_changed_is_sent(loop: Loop) -> None:
    assert loop.run(loop.edit(object=b"two"), loop.edit(object=b"three")) == 0
    assert loop.events.count("boot 6.1-amd64") == loop.events.count("destroy 6.1-amd64") == 1
    assert loop.events.count("test 6.1-auto truth.open") == 3
    assert "sent 1 files, 0 KiB\n" in loop.said
    assert "round 3: 3 PASS" in loop.said
    assert b"three" in loop.guest.files["/tmp/fim-update.tar"]
    assert b"py" not in loop.guest.files["/tmp/fim-update.tar"]


def test_python_that_changed_takes_a_new_server(loop: Loop) -> None:
    """Of the bodies of scenarios a server that rests has read none, nor of what is compiled."""
    loop.run(loop.edit(python=b"new"), loop.edit(scenario=b"new"), loop.edit(object=b"new"))
    assert [line for line in loop.said.splitlines() if line.startswith("sent")] == [
        "sent 1 files, 0 KiB, with a new server",
        "sent 1 files, 0 KiB",
        "sent 1 files, 0 KiB",
    ]


def test_what_a_save_need_not_wait_for_comes_after_the_verdict(loop: Loop) -> None:
    """The old programs go, the next server comes and half of another, and only then is the next save seen."""
    loop.run(loop.edit(object=b"two"), loop.edit(python=b"three"))
    server = ["quit 6.1-auto", "serve 6.1-amd64", "stand by 6.1-amd64"]
    tests = [f"test 6.1-auto {name}" for name in ("truth.open", "truth.unlink", "truth.rename")]
    assert loop.events == [
        *["boot 6.1-amd64", "deploy 6.1-amd64", "serve 6.1-amd64", *tests, *server],
        *[*tests, *server],
        *["serve 6.1-amd64", *tests, "quit 6.1-auto", *server],
        "destroy 6.1-amd64",
    ]


def test_a_verdict_says_what_it_waited_for(loop: Loop) -> None:
    """Phases in their order, which make the whole."""
    loop.run(loop.edit(object=b"two"))
    first, second = re.findall(r"(\w+) → verdict ([\d.]+) s \((.*)\)", loop.said)
    assert re.sub(r" [\d.]+", "", first[2]) == "boot and load, tests"
    assert re.sub(r" [\d.]+", "", second[2]) == "notice, build, push, load, tests"
    assert sum(map(float, re.findall(r"[\d.]+", second[2]))) <= float(second[1]) + 0.3


def test_a_machine_that_cannot_be_made_ready_is_replaced(loop: Loop) -> None:
    """A server that does not start after the verdict is said, and the next save boots another machine."""
    loop.run(loop.edit(object=b"two", script={"*::serve": "lost"}), loop.edit(object=b"three"))
    assert loop.events.count("boot 6.1-amd64") == 2
    assert "round 3: 3 PASS" in loop.said


def test_what_does_not_build_is_shown_and_waited_for(loop: Loop) -> None:
    loop.run(loop.edit(problem="open.h:3: error: expected ';'"), loop.edit(object=b"mended"))
    assert "open.h:3: error: expected ';'" in loop.said
    assert loop.events.count("test 6.1-auto truth.open") == 2


def test_what_the_verifier_rejects_does_not_cost_the_machine(loop: Loop) -> None:
    """It is the most common of all mistakes, and the next save mends it."""
    code = loop.run(loop.edit(object=b"bad", script={"*::load": "refuse"}), loop.edit(object=b"good"))
    assert code == 0
    assert "load refused" in loop.said
    assert loop.events.count("boot 6.1-amd64") == 1


def test_a_guest_that_crashed_is_replaced(loop: Loop) -> None:
    loop.run(loop.edit(object=b"bad", script={"*::truth.open": "crash"}), loop.edit(object=b"good"))
    assert loop.events.count("boot 6.1-amd64") == loop.events.count("destroy 6.1-amd64") == 2
    assert "CRASH" in loop.said


def test_the_exit_code_is_that_of_the_last_round(loop: Loop) -> None:
    assert loop.run(loop.edit(object=b"bad", script={"*::truth.open": "fail"})) == 1


def test_one_machine_at_a_time(loop: Loop) -> None:
    (loop.tmp_path / "matrix.yaml").write_text("kernels: [6.1, 6.12]\n")
    with pytest.raises(ConfigError, match="of which machine"):
        loop.run()


def test_only_what_the_tests_need_is_loaded() -> None:
    assert events_of(["truth.open", "truth.rename", "approvers.path"]) == ("open", "rename")


def test_changes_are_those_of_sources(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("1")
    (tmp_path / "a.pyc").write_text("1")
    before = sources.snapshot([tmp_path])
    (tmp_path / "a.pyc").write_text("22")
    (tmp_path / "b.py").write_text("1")
    (tmp_path / "a.h").unlink()
    assert [path.name for path in sources.changed(before, sources.snapshot([tmp_path]))] == ["a.h", "b.py"]


def test_a_save_is_as_old_as_its_last_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h"
    path.touch()
    os.utime(path, (100, 100))
    assert sources.saved_at([path, tmp_path / "gone"], 200.0) == 100
    assert sources.saved_at([tmp_path / "gone"], 200.0) == 200
    path.touch()
    assert sources.saved_at([path], time.time() + 60) <= time.time()


def test_a_scenario_is_read_when_it_is_first_asked_for() -> None:
    """What is loaded before the first test has none of their bodies, so that a change needs no new server."""
    code = "import sys, agent.selftest.loaded, agent.selftest.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=supply.ROOT, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "agent.selftest.scenarios" in loaded
    assert not [name for name in loaded if name.startswith("agent.selftest.scenarios.")]
    change = update.between({}, {SCENARIO: Member(b"x", 0o644)})
    assert (change.outdates(tested=False), change.outdates(tested=True)) == (False, True)


def test_what_stands_by_has_nothing_of_the_agent() -> None:
    """It may all have changed by the time that it is needed; what comes after the line is for the server."""
    words = [sys.executable if word == "python3" else word for word in STAND_BY]
    words[words.index("-C") + 1] = str(supply.ROOT)
    bare = "assert not [name for name in sys.modules if name.startswith('agent')]"
    words[-1] = words[-1].replace("os.read(0, 1)", f"{bare}; os.read(0, 1)")
    asked = b'\n{"id":1,"do":"quit"}\n'
    done = subprocess.run(words, input=asked, capture_output=True)
    assert [json.loads(line).get("did", "hello") for line in done.stdout.splitlines()] == ["hello", "quit"]
    assert done.returncode == 0


def test_what_is_gone_is_removed_from_the_guest() -> None:
    guest = FakeGuest(lambda _argv: Completed(0, b"", b""))
    old = {"agent/old name.py": Member(b"x", 0o644), OBJECT: Member(b"x", 0o644)}
    found = update.between(old, {OBJECT: Member(b"x", 0o644)})
    assert (found.gone, found.outdates(tested=False), bool(found)) == (("agent/old name.py",), True, True)
    update.send(guest, found)
    assert "rm -f 'agent/old name.py'" in guest.commands[0][-1]
    assert not update.between(old, old)
