"""The developer's loop: a save is built, changed files are sent, and tests run on the same machine."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import harness.run.fake
from agent.kernel.libbpf import Object
from agent.selftest.protocol import Loaded
from harness import cli
from harness.commands.options import selectors
from harness.errors import ConfigError, HarnessError
from harness.guest.base import Completed
from harness.guest.deploy import OBJECT
from harness.guest.selftest import STAND_BY
from harness.host.canary import host_arch
from harness.lab import supplies
from harness.plan import checked as config
from harness.plan.cells import Cell
from harness.plan.plan import Selectors, make
from harness.report.lines import Lines
from harness.run.fake import FakeBench, FakeMachine
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from harness.watch import sources, update
from harness.watch.build import FAMILIES, MakeProject
from harness.watch.update import Member
from harness.watch.watch import Watch, look
from tests.harness.conftest import matrix_of
from tests.harness.guest.fake import FakeGuest

SCENARIO = "agent/selftest/scenarios/truth.py"


class ServedMachine(FakeMachine):
    """A fake machine that records when its server starts and ends; `serve` is a step of the script."""

    def selftest(self, log: Path, deadline_s: float) -> FakeMachine:
        self.bench.note(f"serve {self.cell.machine}")
        self._play("serve")
        return super().selftest(log, deadline_s)

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        loaded = super().load(cell, deadline_s)
        return loaded._replace(
            hooks=tuple({**hook, "program": "lsm__open__resolve"} for hook in loaded.hooks)
        )

    def stand_by(self) -> None:
        self.bench.note(f"stand by {self.cell.machine}")

    def close(self) -> HarnessError | None:
        self.bench.note(f"quit {self.cell.id}")
        return super().close()


class Edited:
    """A project whose builds a test defines."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.members = {OBJECT: Member(b"one", 0o644), "agent/cli.py": Member(b"py", 0o644)}
        self.problem = ""
        self.rest = ""
        self.note = note

    def build(self) -> str:
        self.note("build")
        return self.problem

    def build_rest(self) -> str:
        self.note("build rest")
        return self.rest or self.problem

    def files(self) -> dict[str, Member]:
        return dict(self.members)

    def needs(self, programs: Iterable[str]) -> None:
        self.note(f"needs {' '.join(sorted(programs)) or 'all'}")


class Loop:
    """A project that is edited between two checks of the watch."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = tmp_path / "log"
        self.source = tmp_path / "bpf/open.h"
        self.source.parent.mkdir()
        self.source.write_text("one")
        self.bench = FakeBench({}, self.log)
        self.guest = FakeGuest()
        self.project = Edited(self.bench.note)
        self.matrix = "kernels: [6.1]\n"
        self.tests: tuple[str, ...] = ("truth.open", "truth.unlink", "truth.rename")
        self.out = io.StringIO()
        monkeypatch.setattr(ServedMachine, "guest", self.guest, raising=False)
        monkeypatch.setattr(harness.run.fake, "FakeMachine", ServedMachine)
        self.tmp_path = tmp_path

    def run(self, *edits: Iterator[None]) -> int:
        """Watch, with an edit at each check, until none is left."""
        (self.tmp_path / "matrix.yaml").write_text(self.matrix)
        options = Options(
            matrix=self.tmp_path / "matrix.yaml",
            selectors=Selectors(test=self.tests),
            output=self.tmp_path / "out",
        )
        run = Run(options, self.bench)
        run.prepare(lambda _line: None)
        seen = look(run, [self.source.parent])
        watch = Watch(
            run,
            Lines(Console(file=self.out, width=200)),
            folders=[self.source.parent],
            project=self.project,
        )
        left = iter(edits)

        def wait(_seconds: float) -> None:
            try:
                next(next(left))
            except StopIteration:
                raise KeyboardInterrupt from None

        return watch.forever(seen, wait)

    def edit(
        self, *, problem: str = "", rest: str = "", script: dict[str, str] | None = None, **files: bytes
    ) -> Iterator[None]:
        """Save the source; `files` are what is built from it, and `script` is what happens."""
        self.source.write_text(self.source.read_text() + "+")
        names = {"object": OBJECT, "python": "agent/cli.py", "scenario": SCENARIO}
        self.project.members |= {names[name]: Member(data, 0o644) for name, data in files.items()}
        self.project.problem, self.project.rest = problem, rest
        self.bench.script = script or {}
        yield

    @property
    def events(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [line.partition(" ")[2] for line in lines]

    @property
    def output(self) -> str:
        return self.out.getvalue()


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(tmp_path, monkeypatch)


def test_the_machine_stays_up_and_only_what_changed_is_sent(loop: Loop) -> None:
    assert loop.run(loop.edit(object=b"two"), loop.edit(object=b"three")) == 0
    assert loop.events.count("boot 6.1-amd64") == loop.events.count("destroy 6.1-amd64") == 1
    assert loop.events.count("test 6.1-auto truth.open") == 3
    assert "sent 1 file, 0 KiB\n" in loop.output
    assert "round 3: 3 PASS" in loop.output
    assert b"three" in loop.guest.files["/tmp/fim-update.tar"]
    assert b"py" not in loop.guest.files["/tmp/fim-update.tar"]


def test_changed_python_starts_a_new_server(loop: Loop) -> None:
    """An idle server has not read scenario bodies or the compiled object, so these need no new one."""
    loop.run(loop.edit(python=b"new"), loop.edit(scenario=b"new"), loop.edit(object=b"new"))
    assert [line for line in loop.output.splitlines() if line.startswith("sent")] == [
        "sent 1 file, 0 KiB, with a new server",
        "sent 1 file, 0 KiB",
        "sent 1 file, 0 KiB",
    ]


def test_what_a_save_need_not_wait_for_comes_after_the_verdict(loop: Loop) -> None:
    """Other objects are built, old programs detached and the next server started after the verdict."""
    loop.run(loop.edit(object=b"two"), loop.edit(python=b"three"))
    tests = [f"test 6.1-auto {name}" for name in ("truth.open", "truth.unlink", "truth.rename")]
    rest = ["build rest", "needs all", "build", "quit 6.1-auto", "serve 6.1-amd64", "stand by 6.1-amd64"]
    assert loop.events == [
        *["boot 6.1-amd64", "deploy 6.1-amd64", "serve 6.1-amd64", *tests, *rest],
        *["build", *tests, *rest],
        *["build", "serve 6.1-amd64", *tests, *rest[:3], "quit 6.1-auto", *rest[3:]],
        "destroy 6.1-amd64",
    ]


def test_a_forced_set_is_built_without_the_families_that_it_never_loads(loop: Loop) -> None:
    """The loaded programs determine which; the others are built after the verdict."""
    loop.matrix = "kernels: [6.1]\nhooksets: [lsm]\n"
    loop.run(loop.edit(object=b"two", rest="kprobe.bpf.c:9: error"), loop.edit(object=b"three"))
    assert loop.events.count("needs lsm__open__resolve") == 3
    assert "kprobe.bpf.c:9: error\na part that was not loaded does not build" in loop.output
    assert "round 3: 3 PASS" in loop.output


def test_all_is_built_while_the_needed_programs_are_unknown(loop: Loop) -> None:
    """After a load that failed, and before one that plans by other rules."""
    loop.matrix = "kernels: [6.1]\nhooksets: [lsm]\n"
    loop.source = loop.source.parent.parent / "agent/hooks/points.py"
    loop.source.parent.mkdir(parents=True)
    loop.source.write_text("one")
    refused = loop.edit(object=b"two", script={"*::load": "broken"})
    loop.run(refused, loop.edit(object=b"three"))
    needs = [event for event in loop.events if event.startswith("needs")]
    lsm = "needs lsm__open__resolve"
    assert needs == [lsm, "needs all", "needs all", "needs all", lsm]


def test_another_architecture_is_built_in_its_folder(tmp_path: Path) -> None:
    """The object and the generator of the guest, and after the verdict everything for both."""
    other = "amd64" if host_arch() == "arm64" else "arm64"
    rule = "\t@echo $@ $^; false\n"
    (tmp_path / "Makefile").write_text(f"build/%:\n{rule}build build-{other}:\n{rule}.PHONY: build\n")
    project = MakeProject(tmp_path, other)
    assert project.build().splitlines()[0].strip() == f"build/{other}/fim.bpf.o"
    assert project.build_rest().splitlines()[0].strip() == "build"


def test_the_object_for_kernels_under_lockdown_is_built_where_a_cell_may_load_it(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        "build/fim.bpf.o build/fim-gen build/rules_tables.py:\n\t@true\n%.o:\n\t@echo $@; false\n"
    )
    assert MakeProject(tmp_path).build() == ""
    assert MakeProject(tmp_path, casts=True).build().splitlines()[0] == "build/fim-casts.bpf.o"


@pytest.mark.parametrize(
    ("programs", "built"),
    [
        ([], "fim.bpf.o"),
        (["fentry__open__enter", "raw_tp__exec__once"], "fim-without-KPROBE.KPROBE_MULTI.bpf.o"),
        (["kprobe__open__enter"], "fim-without-TRAMPOLINE.KPROBE_MULTI.TRACEPOINT.bpf.o"),
    ],
)
def test_a_family_is_left_out_when_it_has_none_of_the_programs(
    tmp_path: Path, programs: list[str], built: str
) -> None:
    """The name of the object lists the missing families, and make builds exactly that object."""
    (tmp_path / "Makefile").write_text(
        "build/fim-gen build/rules_tables.py:\nbuild/%.o:\n\t@echo $@; false\n"
    )
    project = MakeProject(tmp_path)
    project.needs(programs)
    assert project.build().splitlines()[0] == f"build/{built}"


def test_an_object_without_families_has_all_the_others_programs() -> None:
    """Make compiles the programs of `FAMILIES`: none of a family that is left out, and all others."""
    project = MakeProject()
    project.needs(["fentry__open__enter", "raw_tp__exec__once"])
    assert project.build() == ""
    left_out = {*FAMILIES["KPROBE"], *FAMILIES["KPROBE_MULTI"]}
    part, whole = (_programs(supplies.ROOT / "build" / name) for name in (project.object, "fim.bpf.o"))
    assert part == {name for name in whole if name.partition("__")[0] not in left_out}
    assert len(part) < len(whole)
    assert project.files()[OBJECT].data == (supplies.ROOT / "build" / project.object).read_bytes()


def _programs(path: Path) -> set[str]:
    opened = Object(str(path))
    try:
        return set(opened.programs)
    finally:
        opened.close()


def test_a_verdict_has_the_duration_of_each_phase(loop: Loop) -> None:
    """In their order; together they are the whole time."""
    loop.run(loop.edit(object=b"two"))
    first, second = re.findall(r"(\w+) → verdict ([\d.]+) s \((.*)\)", loop.output)
    assert re.sub(r" [\d.]+", "", first[2]) == "boot and load, tests"
    assert re.sub(r" [\d.]+", "", second[2]) == "notice, build, push, load, tests"
    assert sum(map(float, re.findall(r"[\d.]+", second[2]))) <= float(second[1]) + 0.3


def test_a_machine_that_cannot_be_made_ready_is_replaced(loop: Loop) -> None:
    """A server that fails after the verdict is reported, and the next save boots another machine."""
    loop.run(loop.edit(object=b"two", script={"*::serve": "lost"}), loop.edit(object=b"three"))
    assert loop.events.count("boot 6.1-amd64") == 2
    assert "round 3: 3 PASS" in loop.output


def test_a_failed_build_is_shown_and_the_watch_continues(loop: Loop) -> None:
    loop.run(loop.edit(problem="open.h:3: error: expected ';'"), loop.edit(object=b"mended"))
    assert "open.h:3: error: expected ';'" in loop.output
    assert loop.events.count("test 6.1-auto truth.open") == 2


def test_a_rejection_by_the_verifier_keeps_the_machine(loop: Loop) -> None:
    """It is the most common mistake, and the next save corrects it."""
    code = loop.run(loop.edit(object=b"bad", script={"*::load": "refuse"}), loop.edit(object=b"good"))
    assert code == 0
    assert "load refused" in loop.output
    assert loop.events.count("boot 6.1-amd64") == 1


def test_a_guest_that_crashed_is_replaced(loop: Loop) -> None:
    loop.run(loop.edit(object=b"bad", script={"*::truth.open": "crash"}), loop.edit(object=b"good"))
    assert loop.events.count("boot 6.1-amd64") == loop.events.count("destroy 6.1-amd64") == 2
    assert "CRASH" in loop.output


def test_the_exit_code_is_that_of_the_last_round(loop: Loop) -> None:
    assert loop.run(loop.edit(object=b"bad", script={"*::truth.open": "fail"})) == 1


def _written(path: Path, *contents: str | None) -> Iterator[None]:
    """Write one content after the other, an edit for each check; None removes the file."""
    for content in contents:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        yield


def _suite(loop: Loop) -> Path:
    loop.matrix = "kernels: [6.1]\nsuites: [{name: a, command: 'true', files: [data, 'bin/*.o']}]\n"
    loop.tests = ()
    for name in ("data/one", "bin/a.o"):
        (loop.tmp_path / name).parent.mkdir()
        (loop.tmp_path / name).write_text("one")
    return loop.tmp_path


@pytest.mark.parametrize("name", ["data/one", "data/deep/two", "bin/a.o", "bin/b.o"])
def test_a_suite_runs_again_when_a_file_of_it_is_saved(loop: Loop, name: str) -> None:
    """Also a file of a folder or of a glob, old or new; on the machine that stays up, without the agent."""
    edit = _written(_suite(loop) / name, "another")
    loop.run(edit, iter([None]), iter([None]))
    assert loop.events.count("test 6.1-a command.a") == 2
    assert loop.events.count("boot 6.1-amd64") == 1
    assert "stand by 6.1-amd64" not in loop.events
    assert "deploy 6.1-amd64" not in loop.events
    assert f"changed: {loop.tmp_path}" in loop.output


def test_sources_of_the_agent_are_no_files_of_a_suite(loop: Loop) -> None:
    """A save that changes nothing of the tested suite starts no round."""
    _suite(loop)
    loop.run(loop.edit(object=b"two"), iter([None]))
    assert loop.events.count("test 6.1-a command.a") == 1


def test_a_program_that_is_still_written_is_waited_for(loop: Loop) -> None:
    """A linker writes in steps: the watch starts one round with the complete file."""
    path = _suite(loop) / "bin/a.o"
    edit = _written(path, "12", "123", "1234")
    loop.run(edit, edit, edit, iter([None]), iter([None]), iter([None]))
    assert loop.events.count("test 6.1-a command.a") == 2


def test_a_kernel_that_was_built_again_is_booted(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine is given up, and the new kernel is taken before the next round."""
    prepare = loop.bench.prepare

    def noted(*words: Any) -> Supplies:
        loop.bench.note("prepare")
        return prepare(*words)

    monkeypatch.setattr(loop.bench, "prepare", noted)
    image = _suite(loop) / "linux/arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.write_text("one")
    loop.matrix = "kernels: [{name: own, build: linux}]\nsuites: [{name: a, command: 'true'}]\n"
    loop.run(_written(image, "another"), iter([None]), iter([None]))
    assert loop.events.count("boot own-amd64") == loop.events.count("test own-a command.a") == 2
    assert loop.events.count("prepare") == 2


def test_a_kernel_that_cannot_be_taken_waits_for_its_next_build(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _suite(loop) / "own"
    image.write_text("one")
    loop.matrix = "kernels: [{name: own, image: own}]\nsuites: [{name: a, command: 'true'}]\n"

    def renew(_run: Run, _progress: object) -> None:
        raise ConfigError("not a kernel image")

    monkeypatch.setattr(Run, "renew", renew)
    loop.run(_written(image, "another"), iter([None]), iter([None]))
    assert loop.events.count("test own-a command.a") == 1
    assert "not a kernel image" in loop.output
    assert "no kernel to boot; waiting for its next build" in loop.output


def test_a_file_of_a_suite_that_is_gone_costs_no_machine(loop: Loop) -> None:
    """Between a linker's removal of the file and its result there is nothing to run."""
    path = _suite(loop) / "bin/a.o"
    gone, back = _written(path, None), _written(path, "two")
    loop.run(gone, iter([None]), back, iter([None]), iter([None]))
    assert loop.events.count("test 6.1-a command.a") == 2
    assert loop.events.count("boot 6.1-amd64") == 1
    assert "bin/*.o: no file matches" in loop.output


def test_one_machine_at_a_time(loop: Loop) -> None:
    loop.matrix = "kernels: [6.1, 6.12]\n"
    with pytest.raises(ConfigError, match="more than one machine matches"):
        loop.run()


def test_the_line_of_the_documentation_is_one_cell_of_the_repositorys_matrix() -> None:
    """A named kernel and hook set are used whatever tag their entry has."""
    (line,) = re.findall(r"`harness (run .*) --watch`", (supplies.ROOT / "docs/loop.md").read_text())
    arguments = cli.parser().parse_args([*shlex.split(line), "--matrix", str(supplies.ROOT / "matrix.yaml")])
    plan = make(config.load(arguments.matrix), selectors(arguments))
    assert [cell.id for cell in plan.cells] == ["6.1-fentry"]
    assert {test.partition(".")[0] for test in plan.cells[0].tests} == {"approvers"}


def test_an_empty_plan_names_the_missing_tag_first() -> None:
    """The error lists only cells that match the pattern and lack the tag."""
    entry = {"hookset": ["fentry"], "tags": ["nightly"]}
    matrix = matrix_of("5.10", "6.1", hooksets=["auto"], include=[entry])
    with pytest.raises(ConfigError) as caught:
        make(matrix, Selectors(kernel=("6.*",), hookset=("fentry",)))
    assert caught.value.hint.startswith("6.1-fentry: runs only with --tag nightly; 5.10-auto: not selected")


def test_only_sources_count_as_changes(tmp_path: Path) -> None:
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


def test_a_scenario_is_imported_when_it_first_runs() -> None:
    """No body is loaded before the first test, so that a change of one needs no new server."""
    code = "import sys, agent.selftest.loaded, agent.selftest.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=supplies.ROOT, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "agent.selftest.scenarios" in loaded
    assert not [name for name in loaded if name.startswith("agent.selftest.scenarios.")]
    change = update.between({}, {SCENARIO: Member(b"x", 0o644)})
    assert (change.outdates(tested=False), change.outdates(tested=True)) == (False, True)


def test_the_waiting_process_has_loaded_nothing_of_the_agent() -> None:
    """The agent may have changed by the time it is needed; input after the first line is for the server."""
    words = [sys.executable if word == "python3" else word for word in STAND_BY]
    words[words.index("-C") + 1] = str(supplies.ROOT)
    bare = "assert not [name for name in sys.modules if name.startswith('agent')]"
    words[-1] = words[-1].replace("os.read(0, 1)", f"{bare}; os.read(0, 1)")
    asked = b'\n{"id":1,"do":"quit"}\n'
    done = subprocess.run(words, input=asked, capture_output=True)
    assert [json.loads(line).get("did", "hello") for line in done.stdout.splitlines()] == ["hello", "quit"]
    assert done.returncode == 0


def test_removed_files_are_removed_from_the_guest() -> None:
    guest = FakeGuest(lambda _argv: Completed(0, b"", b""))
    old = {"agent/old name.py": Member(b"x", 0o644), OBJECT: Member(b"x", 0o644)}
    found = update.between(old, {OBJECT: Member(b"x", 0o644)})
    assert (found.removed, found.outdates(tested=False), bool(found)) == (("agent/old name.py",), True, True)
    update.send(guest, found)
    assert "rm -f 'agent/old name.py'" in guest.commands[0][-1]
    assert not update.between(old, old)
