"""What no rule can match is dropped in the kernel, once the agent has seen it."""

from __future__ import annotations

import os
from pathlib import Path

from agent.events.model import EventType
from agent.selftest import filesystems
from agent.selftest.bench import Bench, Round
from agent.selftest.scenarios import proves

NOISE = 1009
WANTED = 13
FEW = 101  # noise where the number proves nothing
CROWD = 509  # files, of which the table holds but a part


@proves("discarders.parent")
def discarders_parent(bench: Bench) -> None:
    """Open a thousand files in a directory that no rule can match, then files of /etc, where some match."""
    dull = bench.path("dull")
    Path(dull).mkdir()
    everywhere_else = f'open.file.path !~ "{dull}/*" && open.file.name != "group"'
    noise = f"open {dull}/f%d O_RDWR|O_CREAT 0600 -> $0\nclose $0\n"

    bench.rules(elsewhere=everywhere_else)
    first = bench.play(f"repeat 1\n{noise}end\n")
    bench.equal("the first event arrives", 1, len(first.of(EventType.OPEN)))
    rest = bench.play(f"repeat {NOISE}\n{noise}end\n")
    bench.equal("later events that reach the agent", 0, len(rest.of(EventType.OPEN)))
    bench.equal("later events discarded", NOISE, rest.counted[EventType.OPEN].discarded)

    unmatched = bench.play("open /etc/group O_RDONLY -> $0\nclose $0\n")
    bench.equal("an event of /etc that no rule matches", 1, len(unmatched.of(EventType.OPEN)))
    wanted = bench.play(f"repeat {WANTED}\nopen /etc/passwd O_RDONLY -> $0\nclose $0\nend\n")
    bench.equal("events of /etc that a rule matches", WANTED, len(wanted.matches("elsewhere")))

    bench.rules(elsewhere=everywhere_else)
    again = bench.play(f"repeat 1\n{noise}end\n")
    bench.equal("the first event after a reload arrives", 1, len(again.of(EventType.OPEN)))


def _open(path: str, count: int = 1) -> str:
    return f"repeat {count}\nopen {path} O_RDWR|O_CREAT 0600 -> $0\nclose $0\nend\n"


def _teach(bench: Bench, path: str) -> None:
    """Open a file so that the agent learns of it; later opens of it are dropped."""
    bench.equal("the first event arrives", 1, len(bench.play(_open(path)).of(EventType.OPEN)))
    _check_dropped(bench, bench.play(_open(path, FEW)), FEW)


def _check_dropped(bench: Bench, played: Round, count: int) -> None:
    bench.equal("later events that reach the agent", 0, len(played.of(EventType.OPEN)))
    bench.equal("later events discarded", count, played.counted[EventType.OPEN].discarded)


def _check_seen(bench: Bench, played: Round, why: str) -> None:
    bench.equal(f"events after {why}", 1, len(played.matches("wanted")))


@proves("discarders.leaf")
def discarders_leaf(bench: Bench) -> None:
    """Only the file itself is discarded where others in its directory may match."""
    dull, wanted = bench.path("dull"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{dull}"')
    _teach(bench, dull)
    passed = bench.play(_open(wanted, WANTED))
    bench.equal("events of the file beside it", WANTED, len(passed.matches("wanted")))


def _check_level(bench: Bench, below: str) -> None:
    """Discard a directory for what lies at one depth below it, and only for that."""
    root = bench.path("dull")
    Path(f"{root}/{below}").mkdir(parents=True)
    bench.rules(wanted=f'open.file.path !~ "{root}/**"')
    _teach(bench, f"{root}/{below}/one")
    Path(f"{root}/{below}2").mkdir()
    other = bench.play(_open(f"{root}/{below}2/other%d", FEW))
    _check_dropped(bench, other, FEW)
    passed = bench.play(_open(bench.path("wanted"), WANTED))
    bench.equal("events beside the directory", WANTED, len(passed.matches("wanted")))


@proves("discarders.grandparent")
def discarders_grandparent(bench: Bench) -> None:
    """Teach with one directory, and drop what lies as deep in its neighbour."""
    _check_level(bench, "a")


@proves("discarders.great_grandparent")
def discarders_great_grandparent(bench: Bench) -> None:
    """The same one level higher."""
    _check_level(bench, "a/b")


@proves("discarders.mask")
def discarders_mask(bench: Bench) -> None:
    """What is dropped is one event type, of a file and of a directory; another of the same still passes."""
    path, folder = bench.path("file"), bench.path("folder")
    bench.rules(elsewhere=f'open.file.path != "{path}"', changed=f'chmod.file.path == "{path}"')
    _teach(bench, path)
    changed = bench.play(f"chmod {path} 0600\n")
    bench.arrives_once(changed, "changed", {"file.path": path.encode()})

    Path(folder).mkdir()
    bench.rules(elsewhere=f'open.file.path !~ "{folder}/*"', gone=f'unlink.file.path =~ "{folder}/*"')
    _teach(bench, f"{folder}/file")
    removed = bench.play(f"unlink {folder}/file\n")
    bench.arrives_once(removed, "gone", {"file.path": f"{folder}/file".encode()})


@proves("discarders.rename_file")
def discarders_rename_file(bench: Bench) -> None:
    """A discarded file that takes a name that a rule wants is seen at once."""
    dull, wanted = bench.path("dull"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{dull}"')
    _teach(bench, dull)
    _check_seen(bench, bench.play(f"rename {dull} {wanted}\n{_open(wanted)}"), "the file got another name")


def _check_move(bench: Bench, level: int) -> None:
    """Teach a path, then give another name to the directory so many levels above the file."""
    names = ["one", "two", "three"]
    old = bench.path("/".join(names))
    names[-level] = "moved"
    new = bench.path("/".join(names))
    Path(old).mkdir(parents=True)
    bench.rules(wanted=f'open.file.path != "{old}/file"')
    _teach(bench, f"{old}/file")
    depth = len(names) - level + 1
    source, target = ("/".join(path.split("/")[: bench.depth + depth]) for path in (old, new))
    _check_seen(bench, bench.play(f"rename {source} {target}\n{_open(f'{new}/file')}"), "a directory moved")


@proves("discarders.rename_parent")
def discarders_rename_parent(bench: Bench) -> None:
    """The directory of a discarded file moves."""
    _check_move(bench, 1)


@proves("discarders.rename_grandparent")
def discarders_rename_grandparent(bench: Bench) -> None:
    """The directory above moves."""
    _check_move(bench, 2)


@proves("discarders.rename_great_grandparent")
def discarders_rename_great_grandparent(bench: Bench) -> None:
    """The directory above that moves."""
    _check_move(bench, 3)


@proves("discarders.move_into")
def discarders_move_into(bench: Bench) -> None:
    """A file that moves out of a discarded directory into a watched one is seen on its way and there."""
    dull, watched = bench.path("dull"), bench.path("watched")
    for folder in (dull, watched):
        Path(folder).mkdir()
    bench.rules(
        wanted=f'open.file.path !~ "{dull}/*"', moved=f'rename.file.destination.path =~ "{watched}/*"'
    )
    _teach(bench, f"{dull}/file")
    moved = bench.play(f"rename {dull}/file {watched}/file\n{_open(f'{watched}/file')}")
    bench.arrives_once(moved, "moved", {"file2.path": f"{watched}/file".encode()})
    _check_seen(bench, moved, "the file moved")


@proves("discarders.link")
def discarders_link(bench: Bench) -> None:
    """A discarded file that gets a second name, which a rule wants, is seen by that name."""
    dull, wanted = bench.path("dull"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{dull}"')
    _teach(bench, dull)
    _check_seen(bench, bench.play(f"link {dull} {wanted}\n{_open(wanted)}"), "the file got a second name")


@proves("discarders.bind_mount")
def discarders_bind_mount(bench: Bench) -> None:
    """A discarded directory that is mounted where a rule looks is seen there."""
    dull, wanted = bench.path("dull"), bench.path("wanted")
    for folder in (dull, wanted):
        Path(folder).mkdir()
    bench.rules(wanted=f'open.file.path !~ "{dull}/*"')
    _teach(bench, f"{dull}/file")
    script = f"mount {dull} {wanted} none MS_BIND\n{_open(f'{wanted}/file')}umount {wanted}\n"
    _check_seen(bench, bench.play(script), "the directory was mounted elsewhere")


@proves("discarders.reload")
def discarders_reload(bench: Bench) -> None:
    """What was discarded under one set of rules is seen by the next one from its first event on."""
    path = bench.path("file")
    bench.rules(other=f'open.file.path != "{path}"')
    _teach(bench, path)
    bench.rules(wanted=f'open.file.path == "{path}"', other=f'open.file.path != "{path}"')
    _check_seen(bench, bench.play(_open(path)), "rules that want it")


@proves("discarders.inode_reuse")
def discarders_inode_reuse(bench: Bench) -> None:
    """A file that gets the inode of a discarded one is not taken for it."""
    dull, wanted = bench.path("fs/dull"), bench.path("fs/wanted")
    with bench.mounted("fs", "ext4"):
        bench.rules(wanted=f'open.file.path != "{dull}"')
        _teach(bench, dull)
        before = Path(dull).stat().st_ino
        played = bench.play(f"unlink {dull}\n{_open(wanted)}")
        bench.equal("the inode of the new file", before, Path(wanted).stat().st_ino)
        _check_seen(bench, played, "the inode was used again")


@proves("discarders.two_devices")
def discarders_two_devices(bench: Bench) -> None:
    """Two files with the same inode number on two devices are two files."""
    one, two = bench.path("one"), bench.path("two")
    with bench.mounted("one"), bench.mounted("two"):
        bench.rules(wanted=f'open.file.path !~ "{one}/**"')
        _teach(bench, f"{one}/file")
        passed = bench.play(_open(f"{two}/file"))
        inodes = {Path(f"{place}/file").stat().st_ino for place in (one, two)}
        bench.equal("different inode numbers", 1, len(inodes))
        _check_seen(bench, passed, "the same inode number on another device")


@proves("discarders.subvolumes")
def discarders_subvolumes(bench: Bench) -> None:
    """Directories with the same inode number in two subvolumes of one mount are two directories."""
    dull, wanted = bench.path("fs/a"), bench.path("fs/b")
    with bench.mounted("fs", "btrfs"):
        for volume, folder in ((dull, "one"), (wanted, "etc")):
            filesystems.subvolume(Path(volume))
            Path(f"{volume}/{folder}").mkdir()
        bench.rules(wanted=f'open.file.path =~ "{bench.path("fs")}/*/etc/*"')
        first = bench.play(_open(f"{dull}/one/file%d", FEW))
        bench.equal("events of the other subvolume that a rule matches", 0, len(first.matches("wanted")))
        passed = bench.play(_open(f"{wanted}/etc/file%d", WANTED))
        bench.equal("events of the subvolume that a rule matches", WANTED, len(passed.matches("wanted")))
        numbers = {Path(f"{dull}/one").stat().st_ino, Path(f"{wanted}/etc").stat().st_ino}
        bench.equal("different inode numbers", 1, len(numbers))


@proves("discarders.evicted")
def discarders_evicted(bench: Bench) -> None:
    """Drop the kernel's inodes of discarded files; new files get their memory, and are not taken for them."""
    with bench.mounted("fs", "ext4") as folder:
        bench.rules(wanted=f'open.file.path !~ "{folder}/dull*"')
        dull = _open(f"{folder}/dull%d", FEW)
        bench.equal("the first event of each arrives", FEW, len(bench.play(dull).of(EventType.OPEN)))
        _check_dropped(bench, bench.play(dull), FEW)
        os.sync()  # a dirty inode stays
        Path("/proc/sys/vm/drop_caches").write_text("2")
        again = bench.play(dull)
        bench.equal("inodes that were read anew", FEW, len(again.of(EventType.OPEN)))
        Path("/proc/sys/vm/drop_caches").write_text("2")
        passed = bench.play(_open(f"{folder}/wanted%d", FEW))
        bench.equal("events of new files", FEW, len(passed.matches("wanted")))


@proves("discarders.unannounced")
def discarders_unannounced(bench: Bench) -> None:
    """A file that overlayfs renames in its upper layer, where no system call does, is seen there."""
    dull, wanted = bench.path("base/upper/dull"), bench.path("base/upper/wanted")
    with bench.mounted("base"):
        for name in ("lower", "upper", "work"):
            Path(bench.path(f"base/{name}")).mkdir()
        layers = ",".join(f"{name}dir={bench.path(f'base/{name}')}" for name in ("lower", "upper", "work"))
        with bench.mounted("merged", "overlay", lambda: layers):
            bench.rules(wanted=f'open.file.path != "{dull}"')
            _teach(bench, dull)
            bench.play(f"rename {bench.path('merged/dull')} {bench.path('merged/wanted')}\n")
            _check_seen(bench, bench.play(_open(wanted)), "the layer's file was renamed")


@proves("discarders.eviction")
def discarders_eviction(bench: Bench) -> None:
    """More files than the table holds: old ones are heard of again, new ones dropped, none mistaken."""
    dull, wanted = bench.path("dull"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path !~ "{dull}*"')
    crowd = _open(f"{dull}%d", CROWD)
    first = bench.play(crowd)
    bench.equal("the first event of each arrives", CROWD, len(first.of(EventType.OPEN)))
    again = bench.play(crowd)
    heard, dropped = len(again.of(EventType.OPEN)), again.counted[EventType.OPEN].discarded
    bench.equal("heard of again, or dropped", CROWD, heard + dropped)
    bench.evidence.record("some were forgotten", heard > 0, "more than 0", heard)
    _teach(bench, f"{dull}-last")
    passed = bench.play(_open(wanted, WANTED))
    bench.equal("events of another file", WANTED, len(passed.matches("wanted")))
