"""The kernel drops events that no rule can match, once the agent has seen one."""

from __future__ import annotations

import os
from pathlib import Path

from agent.events.model import EventType
from agent.selftest import filesystems
from agent.selftest.bench import Bench, Round
from agent.selftest.scenarios import proves

NOISE = 1009
WANTED = 13
FEW = 101  # noise where the number does not matter
CROWD = 509  # files, more than the table can hold


@proves("discarders.parent")
def discarders_parent(bench: Bench) -> None:
    """Open a thousand files in a directory that no rule can match, then files of /etc, where one can."""
    ignored = bench.path("ignored")
    Path(ignored).mkdir()
    everywhere_else = f'open.file.path !~ "{ignored}/*" && open.file.name != "group"'
    noise = f"open {ignored}/f%d O_RDWR|O_CREAT 0600 -> $0\nclose $0\n"

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


def _discard(bench: Bench, path: str) -> None:
    """Open a file, so that the agent inserts a discarder; the kernel drops the later opens."""
    bench.equal("the first event arrives", 1, len(bench.play(_open(path)).of(EventType.OPEN)))
    _check_dropped(bench, bench.play(_open(path, FEW)), FEW)


def _check_dropped(bench: Bench, played: Round, count: int) -> None:
    bench.equal("later events that reach the agent", 0, len(played.of(EventType.OPEN)))
    bench.equal("later events discarded", count, played.counted[EventType.OPEN].discarded)


def _check_seen(bench: Bench, played: Round, why: str) -> None:
    bench.equal(f"events after {why}", 1, len(played.matches("wanted")))


@proves("discarders.leaf")
def discarders_leaf(bench: Bench) -> None:
    """Open a file that no rule can match, and another one in its directory."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{ignored}"')
    _discard(bench, ignored)
    passed = bench.play(_open(wanted, WANTED))
    bench.equal("events of the file beside it", WANTED, len(passed.matches("wanted")))


def _check_level(bench: Bench, below: str) -> None:
    """Check that a directory is discarded for everything at one depth below it, and for nothing else."""
    root = bench.path("ignored")
    Path(f"{root}/{below}").mkdir(parents=True)
    bench.rules(wanted=f'open.file.path !~ "{root}/**"')
    _discard(bench, f"{root}/{below}/one")
    Path(f"{root}/{below}2").mkdir()
    other = bench.play(_open(f"{root}/{below}2/other%d", FEW))
    _check_dropped(bench, other, FEW)
    passed = bench.play(_open(bench.path("wanted"), WANTED))
    bench.equal("events beside the directory", WANTED, len(passed.matches("wanted")))


@proves("discarders.grandparent")
def discarders_grandparent(bench: Bench) -> None:
    """Discard by a file in one directory; files in its sibling are dropped too."""
    _check_level(bench, "a")


@proves("discarders.great_grandparent")
def discarders_great_grandparent(bench: Bench) -> None:
    """The same, one level deeper."""
    _check_level(bench, "a/b")


@proves("discarders.mask")
def discarders_mask(bench: Bench) -> None:
    """Discard opens of a file and of a directory; other event types still pass."""
    path, folder = bench.path("file"), bench.path("folder")
    bench.rules(elsewhere=f'open.file.path != "{path}"', changed=f'chmod.file.path == "{path}"')
    _discard(bench, path)
    changed = bench.play(f"chmod {path} 0600\n")
    bench.arrives_once(changed, "changed", {"file.path": path.encode()})

    Path(folder).mkdir()
    bench.rules(elsewhere=f'open.file.path !~ "{folder}/*"', gone=f'unlink.file.path =~ "{folder}/*"')
    _discard(bench, f"{folder}/file")
    removed = bench.play(f"unlink {folder}/file\n")
    bench.arrives_once(removed, "gone", {"file.path": f"{folder}/file".encode()})


@proves("discarders.rename_file")
def discarders_rename_file(bench: Bench) -> None:
    """Rename a discarded file to a name that the rule matches."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{ignored}"')
    _discard(bench, ignored)
    _check_seen(bench, bench.play(f"rename {ignored} {wanted}\n{_open(wanted)}"), "the file got another name")


def _check_move(bench: Bench, level: int) -> None:
    """Discard a file, then rename the directory so many levels above it."""
    names = ["one", "two", "three"]
    old = bench.path("/".join(names))
    names[-level] = "moved"
    new = bench.path("/".join(names))
    Path(old).mkdir(parents=True)
    bench.rules(wanted=f'open.file.path != "{old}/file"')
    _discard(bench, f"{old}/file")
    depth = len(names) - level + 1
    source, target = ("/".join(path.split("/")[: bench.depth + depth]) for path in (old, new))
    _check_seen(bench, bench.play(f"rename {source} {target}\n{_open(f'{new}/file')}"), "a directory moved")


@proves("discarders.rename_parent")
def discarders_rename_parent(bench: Bench) -> None:
    """Rename the directory of a discarded file."""
    _check_move(bench, 1)


@proves("discarders.rename_grandparent")
def discarders_rename_grandparent(bench: Bench) -> None:
    """Rename the parent of its directory."""
    _check_move(bench, 2)


@proves("discarders.rename_great_grandparent")
def discarders_rename_great_grandparent(bench: Bench) -> None:
    """Rename the grandparent of its directory."""
    _check_move(bench, 3)


@proves("discarders.move_into")
def discarders_move_into(bench: Bench) -> None:
    """Move a file from a discarded directory into a watched one, and open it there."""
    ignored, watched = bench.path("ignored"), bench.path("watched")
    for folder in (ignored, watched):
        Path(folder).mkdir()
    bench.rules(
        wanted=f'open.file.path !~ "{ignored}/*"', moved=f'rename.file.destination.path =~ "{watched}/*"'
    )
    _discard(bench, f"{ignored}/file")
    moved = bench.play(f"rename {ignored}/file {watched}/file\n{_open(f'{watched}/file')}")
    bench.arrives_once(moved, "moved", {"file2.path": f"{watched}/file".encode()})
    _check_seen(bench, moved, "the file moved")


@proves("discarders.link")
def discarders_link(bench: Bench) -> None:
    """Give a discarded file a second name that the rule matches, and open it by that name."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path != "{ignored}"')
    _discard(bench, ignored)
    _check_seen(bench, bench.play(f"link {ignored} {wanted}\n{_open(wanted)}"), "the file got a second name")


@proves("discarders.bind_mount")
def discarders_bind_mount(bench: Bench) -> None:
    """Bind mount a discarded directory where the rule matches, and open a file there."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    for folder in (ignored, wanted):
        Path(folder).mkdir()
    bench.rules(wanted=f'open.file.path !~ "{ignored}/*"')
    _discard(bench, f"{ignored}/file")
    script = f"mount {ignored} {wanted} none MS_BIND\n{_open(f'{wanted}/file')}umount {wanted}\n"
    _check_seen(bench, bench.play(script), "the directory was mounted elsewhere")


@proves("discarders.reload")
def discarders_reload(bench: Bench) -> None:
    """Discard a file, then set rules that match it."""
    path = bench.path("file")
    bench.rules(other=f'open.file.path != "{path}"')
    _discard(bench, path)
    bench.rules(wanted=f'open.file.path == "{path}"', other=f'open.file.path != "{path}"')
    _check_seen(bench, bench.play(_open(path)), "rules that match it")


@proves("discarders.inode_reuse")
def discarders_inode_reuse(bench: Bench) -> None:
    """Remove a discarded file, and create one that gets its inode."""
    ignored, wanted = bench.path("fs/ignored"), bench.path("fs/wanted")
    with bench.mounted("fs", "ext4"):
        bench.rules(wanted=f'open.file.path != "{ignored}"')
        _discard(bench, ignored)
        before = Path(ignored).stat().st_ino
        played = bench.play(f"unlink {ignored}\n{_open(wanted)}")
        bench.equal("the inode of the new file", before, Path(wanted).stat().st_ino)
        _check_seen(bench, played, "the inode was used again")


@proves("discarders.two_devices")
def discarders_two_devices(bench: Bench) -> None:
    """Discard a file, and open another with the same inode number on another device."""
    one, two = bench.path("one"), bench.path("two")
    with bench.mounted("one"), bench.mounted("two"):
        bench.rules(wanted=f'open.file.path !~ "{one}/**"')
        _discard(bench, f"{one}/file")
        passed = bench.play(_open(f"{two}/file"))
        inodes = {Path(f"{folder}/file").stat().st_ino for folder in (one, two)}
        bench.equal("different inode numbers", 1, len(inodes))
        _check_seen(bench, passed, "the same inode number on another device")


@proves("discarders.subvolumes")
def discarders_subvolumes(bench: Bench) -> None:
    """Discard a directory, and open files in one with the same inode number in another subvolume."""
    ignored, wanted = bench.path("fs/a"), bench.path("fs/b")
    with bench.mounted("fs", "btrfs"):
        for volume, folder in ((ignored, "one"), (wanted, "etc")):
            filesystems.subvolume(Path(volume))
            Path(f"{volume}/{folder}").mkdir()
        bench.rules(wanted=f'open.file.path =~ "{bench.path("fs")}/*/etc/*"')
        first = bench.play(_open(f"{ignored}/one/file%d", FEW))
        bench.equal("events of the other subvolume that a rule matches", 0, len(first.matches("wanted")))
        passed = bench.play(_open(f"{wanted}/etc/file%d", WANTED))
        bench.equal("events of the subvolume that a rule matches", WANTED, len(passed.matches("wanted")))
        numbers = {Path(f"{ignored}/one").stat().st_ino, Path(f"{wanted}/etc").stat().st_ino}
        bench.equal("different inode numbers", 1, len(numbers))


@proves("discarders.evicted")
def discarders_evicted(bench: Bench) -> None:
    """Discard files and drop the kernel's inode cache; new files get the memory of the old inodes."""
    with bench.mounted("fs", "ext4") as folder:
        bench.rules(wanted=f'open.file.path !~ "{folder}/ignored*"')
        ignored = _open(f"{folder}/ignored%d", FEW)
        bench.equal("the first event of each arrives", FEW, len(bench.play(ignored).of(EventType.OPEN)))
        _check_dropped(bench, bench.play(ignored), FEW)
        os.sync()  # a dirty inode stays in the cache
        Path("/proc/sys/vm/drop_caches").write_text("2")
        again = bench.play(ignored)
        bench.equal("events of inodes that were read again", FEW, len(again.of(EventType.OPEN)))
        Path("/proc/sys/vm/drop_caches").write_text("2")
        passed = bench.play(_open(f"{folder}/wanted%d", FEW))
        bench.equal("events of new files", FEW, len(passed.matches("wanted")))


@proves("discarders.unannounced")
def discarders_unannounced(bench: Bench) -> None:
    """Discard a file of an upper layer, rename it through the overlay, and open it in the layer."""
    ignored, wanted = bench.path("base/upper/ignored"), bench.path("base/upper/wanted")
    with bench.mounted("base"):
        for name in ("lower", "upper", "work"):
            Path(bench.path(f"base/{name}")).mkdir()
        layers = ",".join(f"{name}dir={bench.path(f'base/{name}')}" for name in ("lower", "upper", "work"))
        with bench.mounted("merged", "overlay", lambda: layers):
            bench.rules(wanted=f'open.file.path != "{ignored}"')
            _discard(bench, ignored)
            bench.play(f"rename {bench.path('merged/ignored')} {bench.path('merged/wanted')}\n")
            _check_seen(bench, bench.play(_open(wanted)), "the layer's file was renamed")


@proves("discarders.mounted_file")
def discarders_mounted_file(bench: Bench) -> None:
    """Discard a file that is mounted on another one, which is renamed in another mount namespace."""
    ignored, wanted, source = bench.file("ignored"), bench.path("wanted"), bench.file("source")
    bench.rules(wanted=f'open.file.path != "{ignored}"')
    bench.play(
        f"unshare CLONE_NEWNS\nmount none / none MS_REC|MS_PRIVATE\nmount {source} {ignored} none MS_BIND\n"
    )
    _discard(bench, ignored)
    Path(ignored).rename(wanted)  # in the namespace of the self-test, where nothing is mounted on it
    _check_seen(bench, bench.play(_open(wanted)), "the mount got another path")


@proves("discarders.eviction")
def discarders_eviction(bench: Bench) -> None:
    """Open more files than the table holds, twice; then a new file, and one that the rule matches."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    bench.rules(wanted=f'open.file.path !~ "{ignored}*"')
    crowd = _open(f"{ignored}%d", CROWD)
    first = bench.play(crowd)
    bench.equal("the first event of each arrives", CROWD, len(first.of(EventType.OPEN)))
    again = bench.play(crowd)
    arrived, dropped = len(again.of(EventType.OPEN)), again.counted[EventType.OPEN].discarded
    bench.equal("events that arrive or are dropped", CROWD, arrived + dropped)
    bench.evidence.record("events of evicted discarders", arrived > 0, "more than 0", arrived)
    _discard(bench, f"{ignored}-last")
    passed = bench.play(_open(wanted, WANTED))
    bench.equal("events of another file", WANTED, len(passed.matches("wanted")))
