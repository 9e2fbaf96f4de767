"""The arena in real kernels: the world is complete, both agents see all of it, and a play leaves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from harness.lab.lab import VmBench
from tests.campaigns.law.arena import Arena
from tests.campaigns.law.neighbours import NAMES, UID
from tests.campaigns.law.played import Match
from tests.campaigns.law.world import Place, World
from tests.guest.agent.daemon import rules

pytestmark = pytest.mark.guest

WORLD = World.from_seed(1)
# A file system that no kernel here has, and a directory that needs it.
ABSENT = (
    Place(
        "zfs", "zfs", "/w/zfs", {}, (("mkdir", "/w/zfs", 0o755, 0), ("mount", "none", "/w/zfs", "zfs", 0, ""))
    ),
    Place("on-zfs", "bind", "/w/on-zfs", {}, (("mkdir", "/w/on-zfs", 0o755, 0),), ("zfs",)),
)
RULES = rules(
    opened='open.file.path =~ "/w/**" && open.flags & O_CREAT > 0',
    made='mkdir.file.path =~ "/w/**"',
    refused='open.file.path == "/etc/shadow" && open.retval < 0',
)


@pytest.fixture(scope="module", params=["6.1", "5.10", "7.3"])
def arena(request: pytest.FixtureRequest, bench: VmBench) -> Iterator[Arena]:
    world = replace(WORLD, places=(*WORLD.places, *ABSENT))
    with Arena(request.param, world, bench=bench) as opened:
        yield opened


def counted(matches: Iterable[Match]) -> Counter[tuple[str, str]]:
    return Counter((match["rule"], match["event"]["path"]) for match in matches)


def script(arena: Arena) -> str:
    """Make a directory and a file in each place."""
    return "witness on\n" + "".join(
        f"program {place.name}\nmkdir {place.path}/new-{place.name} 0755\n"
        f"open {place.path}/new-{place.name}/f O_CREAT|O_RDWR 0644 -> $0\nclose $0\nend\n"
        for place in arena.world.places
    )


def test_every_place_is_made_and_seen(arena: Arena) -> None:
    """Every kernel of the matrix has all file systems; only the read-only place refuses."""
    assert arena.world.places == WORLD.places
    for _ in range(2):  # the second time in a world that was reset
        played = arena.play(RULES, script(arena))
        assert (played.problems, played.lost) == ((), 0)
        made = [record for record in played.records if record.call in {"mkdir", "open"}]
        assert {record.program for record in made if record.failed} == {"ro"}
        expected = Counter(
            {"mkdir": "made", "open": "opened"}[record.call]
            for record in made
            if record.ok or record.call == "mkdir"
        )
        assert Counter(match["rule"] for match in played.on) >= expected
        assert counted(played.on) == counted(played.off)


def test_what_a_kernel_lacks_is_left_out_and_named(arena: Arena) -> None:
    """With what needs it; the rest of the world is made."""
    absent, needing = arena.world.missing
    assert absent.startswith("zfs: mount zfs none at /w/zfs: ")
    assert needing == "on-zfs: it needs zfs, which is missing"


def test_fanotify_confirms_what_was_made(arena: Arena) -> None:
    """Wherever this kernel's fanotify watches; it names the places that it does not."""
    played = arena.play(RULES, script(arena))
    (seen,) = played.outside
    paths = {record.program for record in played.records if record.call == "mkdir" and record.ok}
    confirmed = {name.removeprefix("new-") for _, kind, name in seen.events if kind == "create"}
    unwatched = {one.name for one in arena.world.places if one.path in arena.unwatched or one.kind == "root"}
    assert {"ext4", "xfs", "vfat", "btr", "btr-a", "btr-s"} <= confirmed
    assert paths - {"f"} <= confirmed | unwatched | {"noexec", "bind"}


def test_inode_numbers_of_subvolumes_are_equal(arena: Arena) -> None:
    """A snapshot has the numbers of its source as well."""
    places = ("a", "b", "s")
    lines = "".join(f"open /w/btr/{name}/d1/f1 O_RDONLY\n" for name in places)
    played = arena.play(RULES, f"witness on\nprogram p\n{lines}end\n")
    stats = [record.fd.st for record in played.records if record.fd]
    assert len({stat.ino for stat in stats if stat}) == 1
    assert len({stat.dev for stat in stats if stat}) == 3


def test_rules_change_at_the_line(arena: Arena) -> None:
    opened = "witness on\nprogram p\nopen /w/tmp/x O_CREAT|O_RDWR 0644\nmkdir /w/tmp/y 0755\nend\n"
    other = rules(other='mkdir.file.path == "/w/tmp/y" && mkdir.retval == EEXIST')
    played = arena.play(RULES, f"{opened}# reload\n{opened}", other)
    assert played.problems == ()
    for matches in (played.on, played.off):
        assert [(match["part"], match["rule"]) for match in matches] == [
            (0, "opened"),
            (0, "made"),
            (1, "other"),
        ]
    lines = [(record.part, record.line) for record in played.records if record.call == "mkdir"]
    assert lines == [(0, 4), (1, 10)]


@pytest.mark.parametrize("name", NAMES)
def test_a_neighbour_runs_beside_and_is_gone_afterwards(arena: Arena, name: str) -> None:
    """The play ends whatever the neighbour does; the campaign judges losses."""
    arena.neighbour = name
    try:
        played = arena.play(RULES, script(arena))
    finally:
        arena.neighbour = ""
    assert [record.program for record in played.records if record.call == "open"]
    assert arena.run("ps", "-o", "pid,args", "-u", str(UID)).splitlines()[1:] == []
    assert arena.play(RULES, script(arena)).problems == ()
