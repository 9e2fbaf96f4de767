"""The developer's loop: a save is built, sent as far as it changed, and tested on the machine that stays."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness import sources
from harness.errors import ConfigError
from harness.fakes import FakeBench, FakeMachine
from harness.guest import update
from harness.guest.base import Completed
from harness.guest.fake import FakeGuest
from harness.guest.update import Member
from harness.plan import Selectors
from harness.report.terminal import Lines
from harness.run import Options, Run
from harness.watch import Watch, events_of

OBJECT = "agent/bpf/fim.bpf.o"


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
        monkeypatch.setattr(FakeMachine, "guest", self.guest, raising=False)
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
        names = {"object": OBJECT, "python": "agent/cli.py"}
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
    assert "updated in 0.0 s (1 files, 0 KiB)" in loop.said
    assert "round 3: 3 PASS" in loop.said
    assert b"three" in loop.guest.files["/tmp/fim-update.tar"]
    assert b"py" not in loop.guest.files["/tmp/fim-update.tar"]


def test_python_that_changed_restarts_the_server(loop: Loop) -> None:
    loop.run(loop.edit(python=b"new"))
    assert "server restarted" in loop.said


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


def test_what_is_gone_is_removed_from_the_guest() -> None:
    guest = FakeGuest(lambda _argv: Completed(0, b"", b""))
    old = {"agent/old name.py": Member(b"x", 0o644), OBJECT: Member(b"x", 0o644)}
    found = update.between(old, {OBJECT: Member(b"x", 0o644)})
    assert (found.gone, found.touches_python, bool(found)) == (("agent/old name.py",), True, True)
    update.send(guest, found)
    assert "rm -f 'agent/old name.py'" in guest.commands[0][-1]
    assert not update.between(old, old)
