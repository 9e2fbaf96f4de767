"""The oracle itself: how it draws, what it expects, how it compares, and how it shrinks."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests import ROOT
from tests.campaigns.law import heat, planted
from tests.campaigns.law.campaign import filtered_by_type, shares
from tests.campaigns.law.case import Case
from tests.campaigns.law.judge import judge
from tests.campaigns.law.played import Match, Opened, Played, Record, Seen, Stat
from tests.campaigns.law.policies import Rule
from tests.campaigns.law.programs import Program, batch
from tests.campaigns.law.shrink import Budget, ddmin, shrink
from tests.campaigns.law.steps import Step, flat, line, parse, render, text, without, word
from tests.campaigns.law.world import World
from tests.campaigns.law.writer import Scene, Writer, scene
from tests.campaigns.mutants import workshop

FILE = Stat("8:1", 12, 30, 0o100644, 0, 0)
OPENED = Rule("r0", "open", 'open.file.path == "/w/etc/shadow"')
REFUSED = Rule("r1", "open", 'open.file.path == "/w/etc/shadow" && open.retval == EACCES')


@pytest.fixture(scope="module")
def world() -> World:
    return World.from_seed(1)


def drawn(world: World, seed: int) -> Case:
    rng = random.Random(seed)
    made_in = scene(rng, world)
    return Case(world, (OPENED,), tuple(batch(rng, made_in, 30)), (REFUSED,), 4)


def record(call: str, *words: str, ret: int = 0, seen: Sequence[Seen] = (), **more: Any) -> Record:
    return Record(
        "p0",
        3,
        call,
        (call, *words),
        10,
        10,
        1,
        0,
        0,
        ret,
        int(ret >= 0),
        int(ret < 0),
        seen=tuple(seen),
        **more,
    )


def match(rule: str, path: str, retval: int = 0, **more: Any) -> Match:
    process = {"pid": 10, "tid": 10, "ppid": 1, "uid": 0, "gid": 0, "comm": "p0"}
    return {
        "rule": rule,
        "event": {"type": "open", "path": path, "retval": retval} | more,
        "process": process,
    }


def judged(
    records: Sequence[Record],
    on: Sequence[Match],
    off: Sequence[Match],
    *rules: Rule,
    world: World,
    **more: Any,
) -> list[str]:
    played = Played(tuple(records), tuple(on), tuple(off), **more)
    script = (
        "witness on\nprogram p0\n" + "\n".join(" ".join(one.words) + " -> $1" for one in records) + "\nend\n"
    )
    return [str(one.kind) for one in judge(played, script, (rules, rules), world)]


@pytest.mark.parametrize("name", ["judge", "truth"])
def test_the_truth_does_not_import_the_agent(name: str) -> None:
    """Neither the module nor its imports load a module of the agent or of the harness."""
    code = f"import sys, tests.campaigns.law.{name}; print(*{{name.split('.')[0] for name in sys.modules}})"
    argv = [sys.executable, "-c", code]
    loaded = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "tests" in loaded
    assert not {"agent", "harness"}.intersection(loaded)


@pytest.mark.parametrize("raw", [b"", b"a b", b"\xff\xfe", b"100%d", b"new\nline", "é".encode(), b"$0"])
def test_words_hold_any_bytes(raw: bytes) -> None:
    """A word has no blank, and its bytes can be restored."""
    made = word(raw)
    assert len(made.split()) == 1
    assert text(made).encode("utf-8", "surrogateescape") == raw


def test_a_case_is_the_same_for_the_same_seed(world: World) -> None:
    """It is also the same after writing and reading."""
    case = drawn(world, 7)
    assert case == drawn(world, 7)
    assert case.programs != drawn(world, 8).programs
    assert Case.from_json(case.to_json()) == case


def test_steps_are_cut_out_at_any_depth() -> None:
    steps = (line("fork", into=1, body=(line("unlink", "/a"), line("unlink", "/b"))), line("wait", "$1"))
    assert parse(render(steps)) == steps
    assert len(list(flat(steps))) == 4
    assert render(without(steps, frozenset({(0, 0)}))) == "fork -> $1\nunlink /b\nend\nwait $1\n"


def test_a_file_of_a_detached_tree_has_any_path_until_the_tree_is_attached(world: World) -> None:
    """The kernel names such a file by its place in the tree, for `close` as for the open before."""
    there = Seen(0, "/a", "/a", FILE, FILE)
    script = (
        "witness on\nprogram p0\nopen_tree AT_FDCWD /w/t OPEN_TREE_CLONE -> $1\n"
        "openat $1 a O_WRONLY 0 -> $2\nmove_mount $1 AT_FDCWD /w/m\nclose $2\nend\n"
    )
    tree = record("open_tree", "AT_FDCWD", "/w/t", "OPEN_TREE_CLONE", ret=3)
    opened = replace(
        record("openat", "$1", "a", "O_WRONLY", "0", ret=4, seen=[there], fd=Opened("/a", FILE)), line=4
    )
    moved = replace(record("move_mount", "$1", "AT_FDCWD", "/w/m", ret=0), line=5)
    closed = replace(record("close", "$2", ret=0, seen=[there]), line=6)
    rule = Rule("r0", "close", 'close.file.name == "a"')

    def kinds(path: str, *records: Record) -> list[str]:
        seen = match("r0", path, type="close")
        played = Played(records, (seen,), (seen,))
        return [str(one.kind) for one in judge(played, script, ((rule,), (rule,)), world)]

    assert kinds("a", tree, opened, closed) == []
    assert kinds("a", tree, opened, moved, closed) == ["path both close close elsewhere path"]


def test_a_match_by_its_path_is_not_taken_for_one_that_may_have_any_path(world: World) -> None:
    """A process opens a file of a detached tree first, and then one whose path is known."""
    there = Seen(1, "/a", "/a", FILE, FILE)
    script = (
        "witness on\nprogram p0\nopen_tree AT_FDCWD /w/t OPEN_TREE_CLONE -> $1\n"
        "openat $1 a O_RDONLY 0 -> $2\nopen /w/b O_RDONLY -> $3\nend\n"
    )
    tree = record("open_tree", "AT_FDCWD", "/w/t", "OPEN_TREE_CLONE", ret=3)
    detached = replace(
        record("openat", "$1", "a", "O_RDONLY", "0", ret=4, seen=[there], fd=Opened("/a", FILE)), line=4
    )
    known = Seen(0, "/w/b", "/w/b", FILE, FILE)
    plain = replace(record("open", "/w/b", "O_RDONLY", ret=5, seen=[known], fd=Opened("/w/b", FILE)), line=5)
    rule = Rule("r0", "open", 'open.file.name =~ "*"')
    found = (match("r0", "/w/b"), match("r0", "a", path_marks=["detached"]))
    played = Played((tree, detached, plain), found, found)
    assert judge(played, script, ((rule,), (rule,)), world) == []


@pytest.mark.parametrize(
    ("given", "resolved", "mode", "expected"),
    [
        ("d/a", "/d/a", 0o100644, ["missing"]),
        ("d/new", "/d/new", None, ["missing"]),
        ("d/link", "/d/link", 0o120777, []),
        ("link/a", "/w/b/a", 0o100644, []),
    ],
)
def test_a_link_leads_out_of_a_detached_tree(
    world: World, given: str, resolved: str, mode: int | None, expected: list[str]
) -> None:
    """The file that an absolute link in it leads to is not detached; one that the open creates there is."""
    script = (
        "witness on\nprogram p0\nopen_tree AT_FDCWD /w/t OPEN_TREE_CLONE -> $1\n"
        f"openat $1 {given} O_WRONLY|O_CREAT 0644 -> $2\nend\n"
    )
    tree = record("open_tree", "AT_FDCWD", "/w/t", "OPEN_TREE_CLONE", ret=3)
    state = replace(FILE, mode=mode) if mode else None
    followed = "/w/etc/passwd" if mode == 0o120777 else resolved if mode else None
    seen = Seen(1, resolved, followed, state, FILE if mode else None)
    reached = Opened(followed or resolved, FILE)
    opened = record("openat", "$1", given, "O_WRONLY|O_CREAT", "0644", ret=4, seen=[seen], fd=reached)
    played = Played((tree, replace(opened, line=4)), (), ())
    found = judge(played, script, ((Rule("r0", "open", "open.file.detached"),),), world)
    assert [one.kind.check for one in found] == expected


def test_an_open_that_succeeded_matches(world: World) -> None:
    seen = Seen(0, "/w/etc/shadow", "/w/etc/shadow", FILE, FILE)
    opened = record("open", "/w/etc/shadow", "O_RDONLY", ret=3, seen=[seen], fd=Opened("/w/etc/shadow", FILE))
    good = match("r0", "/w/etc/shadow")
    assert judged([opened], [good], [good], OPENED, world=world) == []
    assert judged([opened], [], [good], OPENED, world=world) == [
        "filter on open open elsewhere plain",
        "missing on open open elsewhere plain",
    ]
    assert judged([opened], [], [], OPENED, world=world) == ["missing both open open elsewhere plain"]
    assert judged([opened], [good] * 2, [good] * 2, OPENED, world=world) == [
        "twice both open open elsewhere plain"
    ]


def test_an_agent_without_filters_that_lost_events_is_not_compared(world: World) -> None:
    """The truth still judges the agent with filters; a loss of that one is a difference."""
    seen = Seen(0, "/w/etc/shadow", "/w/etc/shadow", FILE, FILE)
    opened = record("open", "/w/etc/shadow", "O_RDONLY", ret=3, seen=[seen], fd=Opened("/w/etc/shadow", FILE))
    good = match("r0", "/w/etc/shadow")
    assert judged([opened], [good], [], OPENED, world=world, lost_off=1) == []
    for answer in ([], [good]):
        kinds = judged([opened], [], answer, OPENED, world=world, lost_off=1)
        assert kinds == ["missing both open open elsewhere plain"]
    assert judged([opened], [good], [good], OPENED, world=world, lost=1) == ["lost"]


def test_a_refused_open_is_about_the_object(world: World) -> None:
    """A link does not change the refused object."""
    seen = Seen(0, "/w/tmp/link", "/w/etc/shadow", replace(FILE, mode=0o120777), FILE)
    refused = record("open", "/w/tmp/link", "O_RDONLY", ret=-errno.EACCES, seen=[seen])
    assert judged([refused], [], [], REFUSED, world=world) == ["missing both open open elsewhere link EACCES"]


@pytest.mark.parametrize(
    ("call", "event", "words", "error"),
    [
        ("creat", "open", ("0644",), errno.EISDIR),
        ("open", "open", ("O_WRONLY|O_TRUNC",), errno.EROFS),
        ("chown", "chown", ("0", "0"), errno.EROFS),
    ],
)
def test_modes_and_owners_are_not_defined_where_the_object_is_not_known(
    call: str, event: str, words: tuple[str, ...], error: int, world: World
) -> None:
    """A rule on the path alone must match, and one that asks for the mode as well may."""
    seen = Seen(0, "/w/etc/shadow", "/w/etc/shadow", FILE, FILE)
    refused = record(call, "/w/etc/shadow", *words, ret=-error, seen=[seen])
    path = f'{event}.file.path == "/w/etc/shadow"'
    reported = match("r0", "/w/etc/shadow", -error, type=event)
    for asked in ("rights == 0644", "rights == 0600", "uid == 0"):
        rule = Rule("r0", event, f"{path} && {event}.file.{asked}")
        assert judged([refused], [], [], rule, world=world) == []
        assert judged([refused], [reported], [reported], rule, world=world) == []
    (kind,) = judged([refused], [], [], Rule("r0", event, path), world=world)
    assert kind.startswith(f"missing both {event} {call}")


def test_the_last_call_of_a_program_that_a_signal_ended_is_not_judged(world: World) -> None:
    """It had no time to report the open of a FIFO; of a program that ended by itself the match is wrong."""
    looked = record("look", "/w/etc/none")
    reported = match("r0", "/w/etc/shadow", -errno.EINTR)
    for status, kinds in ((signal.SIGALRM, []), (0, ["extra both open elsewhere EINTR"])):
        ended = replace(record("program", "p0", status=int(status)), program="", pid=1)
        assert judged([looked, ended], [reported], [reported], OPENED, world=world) == kinds


@pytest.mark.parametrize(
    ("call", "event", "words", "error"),
    [
        ("open", "open", ("O_RDONLY",), errno.ENOENT),
        ("ring_setxattr", "setxattr", ("user.a", "v"), errno.EROFS),
    ],
)
def test_an_undefined_case_is_not_judged(
    call: str, event: str, words: tuple[str, ...], error: int, world: World
) -> None:
    """It may be an event or not."""
    seen = Seen(0, "/w/etc/none", "/w/etc/none", None, None)
    refused = record(call, "/w/etc/none", *words, ret=-error, seen=[seen])
    anything = Rule("r0", event, f"{event}.retval < 0")
    reported = match("r0", "/w/etc/none", -error, type=event)
    assert judged([refused], [reported], [reported], anything, world=world) == []
    assert judged([refused], [], [], anything, world=world) == []


def test_a_change_without_a_match_is_a_difference(world: World) -> None:
    """A file has another content afterwards, under a rule that matches all its changes.

    After some calls its path may stand for another object: then nothing is known about it.
    """
    wanted = Rule("r0", "fim.write", 'fim.write.file.path =~ "/w/keep/conf/**"')

    def probe(size: int) -> Record:
        state = replace(FILE, size=size)
        return record(
            "look", "/w/keep/conf/a", seen=[Seen(0, "/w/keep/conf/a", "/w/keep/conf/a", state, state)]
        )

    moved = record(
        "rename", "/w/keep", "/w/k2", seen=[Seen(0, "/w/keep", "/w/keep"), Seen(1, "/w/k2", "/w/k2")]
    )
    kinds = judged([probe(0), probe(4)], [], [], wanted, world=world)
    assert kinds == ["change both elsewhere other"]
    covering = ("move_mount", "$2", '""', "AT_FDCWD", "/w/keep/conf", "MOVE_MOUNT_F_EMPTY_PATH")
    for words in (covering, ("umount2", "/w/keep/conf", "0"), ("setns", "$2", "CLONE_NEWNS")):
        assert judged([probe(0), record(*words), probe(4)], [], [], wanted, world=world) == []
    assert judged([probe(0), moved, probe(4)], [], [], wanted, world=world) == []


def test_another_inode_number_is_no_change_on_a_vfat(world: World) -> None:
    """It gives a file a new one when the kernel drops its caches; its other facts count."""
    folder = next(place.path for place in world.places if place.kind == "vfat")
    wanted = Rule("r0", "fim.write", f'fim.write.file.path =~ "{folder}/**"')

    def probe(ino: int, size: int = FILE.size) -> Record:
        found = replace(FILE, ino=ino, size=size)
        return record("look", f"{folder}/a", seen=[Seen(0, f"{folder}/a", f"{folder}/a", found, found)])

    assert judged([probe(7), probe(8)], [], [], wanted, world=world) == []
    changed = judged([probe(7), probe(8, FILE.size + 1)], [], [], wanted, world=world)
    assert changed == ["change both vfat other"]


@pytest.mark.parametrize(("target", "expected"), [(0o040755, ["missing"]), (0o100644, []), (None, [])])
def test_an_exchange_moves_the_second_file_as_well(
    world: World, target: int | None, expected: list[str]
) -> None:
    """The first one is a file: only a directory as the second one is above what the rule watches."""
    wanted = Rule("r0", "fim.write", 'fim.write.file.path == "/w/keep/conf/a"')
    state = replace(FILE, mode=target) if target else None
    seen = [Seen(1, "/w/l", "/w/l", FILE, FILE), Seen(3, "/w/keep", "/w/keep", state, state)]
    swap = record("renameat2", "AT_FDCWD", "/w/l", "AT_FDCWD", "/w/keep", "RENAME_EXCHANGE", seen=seen)
    assert [kind.split()[0] for kind in judged([swap], [], [], wanted, world=world)] == expected


@pytest.mark.parametrize("slot", ["file", "file.destination"])
def test_an_exchange_is_judged_in_both_orders(world: World, slot: str) -> None:
    """A rule on one name misses the exchange that has it in the other place; a plain rename has none."""
    wanted = Rule("r0", "rename", f'rename.{slot}.path == "/w/keep/f" && rename.{slot}.path != "/w/l"')
    for first, second in (("/w/keep/f", "/w/l"), ("/w/l", "/w/keep/f")):
        seen = [Seen(place, path, path, FILE, FILE) for place, path in ((1, first), (3, second))]
        words = ("renameat2", "AT_FDCWD", first, "AT_FDCWD", second)
        swap = record(*words, "RENAME_EXCHANGE", seen=seen)
        reported = match("r0", first, type="rename", destination={"path": second})
        kinds = judged([swap], [], [], wanted, world=world)
        assert [kind.split()[0] for kind in kinds] == ["missing"]
        assert judged([swap], [reported], [reported], wanted, world=world) == []
        plain = judged([record(*words, "0", seen=seen)], [reported], [reported], wanted, world=world)
        right = (first == "/w/keep/f") == (slot == "file")
        assert [kind.split()[0] for kind in plain] == ([] if right else ["extra"])


def test_an_exchange_above_a_file_shows_it_at_another_path(world: World) -> None:
    """By another mount, whose paths the rule leaves out: of that no rule on the file's path can tell."""
    place = next(place for place in world.places if place.kind == "bind")
    path = f"{place.path}/etc/a"
    wanted = Rule("r0", "fim.write", f'fim.write.file.path =~ "{place.path}/**"')
    probes = [record("look", path, seen=[Seen(0, path, path, state, state)]) for state in (None, FILE)]
    names = f"{place.facts['of']}/keep", f"{place.facts['of']}/etc"
    seen = [Seen(place, name, name) for place, name in ((1, names[0]), (3, names[1]))]
    words = ("AT_FDCWD", names[0], "AT_FDCWD", names[1], "RENAME_EXCHANGE")
    for more in (seen, seen[::-1]):
        swap = record("renameat2", *words, seen=more)
        assert judged([probes[0], swap, probes[1]], [], [], wanted, world=world) == []


def test_a_change_by_another_link_has_the_path_of_that_link(world: World) -> None:
    """An earlier program made the link. A program that used the file by the wanted path too must match."""
    wanted = Rule("r0", "fim.write", 'fim.write.file.path == "/w/keep/conf/a"')
    path, other = "/w/keep/conf/a", "/w/keep/conf/b"

    def probe(size: int, nlink: int) -> Record:
        state = replace(FILE, size=size, nlink=nlink)
        return record("look", path, seen=[Seen(0, path, path, state, state)])

    by_other = record("truncate", other, "4", seen=[Seen(0, other, other)])
    by_path = record("chmod", path, "0600", seen=[Seen(0, path, path)])
    assert judged([probe(0, 2), by_other, probe(4, 2)], [], [], wanted, world=world) == []
    difference = ["change both elsewhere other"]
    assert judged([probe(0, 1), by_other, probe(4, 1)], [], [], wanted, world=world) == difference
    found = judged([probe(0, 2), by_other, by_path, probe(4, 2)], [], [], wanted, world=world)
    assert set(difference) <= set(found)


def test_a_change_by_another_mount_has_the_path_there(world: World) -> None:
    """The world's bind mounts show files again; only a rule on the path that the program used must match."""
    place = next(place for place in world.places if place.kind == "bind")
    path, other = f"{place.path}/a", f"{place.facts['of']}/a"
    wanted = Rule("r0", "fim.write", f'fim.write.file.path =~ "{place.path}/**"')
    probes = [
        record("look", path, seen=[Seen(0, path, path, state, state)])
        for state in (FILE, replace(FILE, size=FILE.size + 4))
    ]
    by_other = record("truncate", other, "4", seen=[Seen(0, other, other)])
    assert judged([probes[0], by_other, probes[1]], [], [], wanted, world=world) == []
    by_path = record("truncate", f"{path}b", "4", seen=[Seen(0, f"{path}b", f"{path}b")])
    kinds = judged([probes[0], by_path, probes[1]], [], [], wanted, world=world)
    assert "change both bind other" in kinds


def test_paths_of_an_object_in_a_world(world: World) -> None:
    """By all mounts that show it; a snapshot and a subvolume have objects of their own."""
    binds = [place for place in world.places if place.kind.startswith("bind")]
    first = binds[0]
    known = {f"{place.path}/x" for place in binds if place.facts["of"] == first.facts["of"]}
    assert world.paths_of(f"{first.path}/x") == known | {f"{first.facts['of']}/x"}
    assert world.paths_of("/w/sub/x") == {"/w/sub/x", "/w/btr/b/x"}
    assert world.paths_of("/w/btr/s/x") == {"/w/btr/s/x"}
    assert world.paths_of("/w/sh/x") == {"/w/sh/x", "/w/peer/x"}
    assert world.paths_of("/w/btr/bb") == {"/w/btr/bb"}


def test_what_filters_dropped_is_counted_by_type() -> None:
    """Processes are in the counts, but not in the parts: they always pass."""
    row = {"seen": 10, "approver_rejected": 4, "discarded": 5, "submitted": 1}
    filtered = filtered_by_type({"open": row, "fork": {"seen": 90}, "link": {"seen": 0}})
    assert filtered == {
        "fork": {"seen": 90, "approver_rejected": 0, "discarded": 0},
        "open": {"seen": 10, "approver_rejected": 4, "discarded": 5},
    }
    assert shares(filtered) == "10 events (40 % rejected, 83 % of the others discarded)"


@pytest.mark.parametrize("name", [mutant.name for mutant in planted.OWN])
def test_a_planted_fault_fits_the_code(name: str) -> None:
    """Exactly once."""
    assert workshop.patched(planted.FAULTS[name], ROOT)


def test_a_lattice_is_made_from_above(world: World) -> None:
    """Each directory before what lies in it, in an order of its own."""
    rng = random.Random(5)
    made_in = scene(rng, world)
    orders = [[step.words[1] for step in made_in.lattice.made(rng)] for _ in range(2)]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order) == sorted((*made_in.lattice.folders, *made_in.lattice.files))
        for at, path in enumerate(order):
            above = path.rpartition("/")[0]
            assert above not in order[at:]


def test_files_are_read_again_by_another_process_after_the_kernel_freed_their_inodes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the kernel has returned the memory, and all files of a root get it, in another order."""
    monkeypatch.setattr(heat, "_kind", lambda _: "truncate")
    for seed in range(20):
        rng = random.Random(seed)
        made_in = scene(rng, world)
        written = Writer(rng, made_in, made_in.lattice.folders)
        heat.forget(written)
        calls = [step.call for step in written.steps]
        (freed,) = [at for at, step in enumerate(written.steps) if step.words[:2] == ("write", "$1")]
        (child,) = [step for step in written.steps if step.call == "fork"]
        assert calls.index("sync") < freed < calls.index("fork") < calls.index("wait")
        first = _files(written.steps[:freed], made_in)
        again = _files(child.body, made_in)
        assert len(set(first)) >= len(set(again)) // 2 > 0
        (root,) = {next(one for one in made_in.lattice.roots if path.startswith(f"{one}/")) for path in again}
        assert set(again) == {path for path in made_in.lattice.files if path.startswith(f"{root}/")}
        assert set(first) <= set(again)


def _files(steps: Sequence[Step], made_in: Scene) -> list[str]:
    """Return the files of the lattice that steps name plainly."""
    return [text(one) for step in steps for one in step.words if text(one) in made_in.lattice.files]


def test_ddmin_keeps_the_needed_items() -> None:
    assert ddmin(range(100), lambda some: 3 in some and 77 in some) == [3, 77]


def test_a_failure_is_shrunk_to_its_lines(world: World) -> None:
    """Of thirty programs and two rules, two programs and one rule are needed."""
    case = drawn(world, 3)
    needed = {"p3": line("unlink", "/needed"), "p9": line("mkdir", "/culprit", "0755")}
    programs = [
        Program(one.name, (*one.steps, *([needed[one.name]] if one.name in needed else [])))
        for one in case.programs
    ]
    case = replace(case, programs=tuple(programs), rules=(OPENED, REFUSED))

    def fails(trial: Case) -> bool:
        script = trial.script
        return "/needed" in script and "/culprit" in script and REFUSED in trial.rules

    small = shrink(case, fails, "p9", "r1", Budget(1000, 60))
    assert small.rules == (REFUSED,)
    assert small.reload is None
    assert [one.steps for one in small.programs] == [(step,) for step in needed.values()]
