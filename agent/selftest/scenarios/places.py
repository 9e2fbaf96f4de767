"""Wherever a file lies, its events say where, as the process's mount namespace sees it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.events.model import Event, EventType, File, FileFlags
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.filesystems import UNIFIED, container
from agent.selftest.scenarios import proves
from agent.selftest.subject import Judged

LAYERS = FileFlags.UPPER | FileFlags.LOWER
STRANGER = 1013  # a user without any rights
HELD = 7  # status of a program that was held


def _make(path: str) -> str:
    return f"open {path} O_RDWR|O_CREAT 0600 -> $0\nclose $0\n"


def _one(bench: Bench, played: Round, rule: str, path: str) -> File:
    """The file of the one event that a rule matched, whose path is known."""
    bench.arrives_once(played, rule, {"file.path": path.encode()})
    events: tuple[Event, ...] = played.matches(rule)
    return events[0].file if events else File()


def _device(number: int) -> int:
    """A device number as the kernel keeps it."""
    return (number >> 8 & 0xFFF) << 20 | number & 0xFF | number >> 12 & 0xFFF00


def _check_kind(bench: Bench, kind: str) -> None:
    """Make, rename and remove a file on a file system of its own."""
    with bench.mounted("fs", kind):
        old, new = bench.path("fs/old"), bench.path("fs/new")
        bench.rules(
            made=f'open.file.path == "{old}"',
            moved=f'rename.file.destination.path == "{new}"',
            gone=f'unlink.file.path =~ "{bench.path("fs")}/*"',
        )
        made = bench.play(_make(old))
        file = _one(bench, made, "made", old)
        known = Path(old).stat()
        if kind != "btrfs":  # which tells stat(2) of a device for each subvolume
            bench.equal("device", _device(known.st_dev), file.device)
        bench.equal("inode", known.st_ino, file.inode)
        moved = bench.play(f"rename {old} {new}\n")
        bench.arrives_once(moved, "moved", {"file.path": old.encode(), "file.inode": known.st_ino})
        gone = bench.play(f"unlink {new}\n")
        bench.arrives_once(gone, "gone", {"file.path": new.encode(), "file.inode": known.st_ino})


@proves("places.tmpfs")
def places_tmpfs(bench: Bench) -> None:
    """A file system in memory."""
    _check_kind(bench, "tmpfs")


@proves("places.ext4")
def places_ext4(bench: Bench) -> None:
    """A file system on a loop device."""
    _check_kind(bench, "ext4")


@proves("places.xfs")
def places_xfs(bench: Bench) -> None:
    """Another one."""
    _check_kind(bench, "xfs")


@proves("places.btrfs")
def places_btrfs(bench: Bench) -> None:
    """And one with subvolumes."""
    _check_kind(bench, "btrfs")


def _overlay(bench: Bench) -> str:
    """Mount options of an overlay of two fresh layers."""
    base = bench.path("base")
    for name in ("lower", "upper", "work"):
        Path(f"{base}/{name}").mkdir()
    Path(f"{base}/lower/below").touch()
    Path(f"{base}/lower/folder").mkdir()
    Path(f"{base}/lower/folder/old").touch()
    Path(f"{base}/upper/above").touch()
    return f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"


@proves("places.overlay")
def places_overlay(bench: Bench) -> None:
    """A file of each layer, by the path of the whole."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        bench.rules(wanted=f'open.file.path =~ "{bench.path("merged")}/*"')
        for name, layer in (("below", FileFlags.LOWER), ("above", FileFlags.UPPER)):
            path = bench.path(f"merged/{name}")
            played = bench.play(f"open {path} O_RDONLY -> $0\nclose $0\n")
            bench.equal(f"layer of {name}", layer, _one(bench, played, "wanted", path).flags & LAYERS)


@proves("places.copy_up")
def places_copy_up(bench: Bench) -> None:
    """Write to a file of the lower layer: one event for what the process did, none for what that takes."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        path = bench.path("merged/below")
        bench.rules(wanted='open.file.name == "below"', closed='close.file.name == "below"')
        played = bench.play(f"open {path} O_WRONLY -> $0\nwrite $0 x\nclose $0\n")
        _one(bench, played, "wanted", path)
        _one(bench, played, "closed", path)
        again = bench.play(f"open {path} O_RDONLY -> $0\nclose $0\n")
        layer = _one(bench, again, "wanted", path).flags & LAYERS
        bench.equal("layer afterwards", FileFlags.UPPER, layer)


@proves("places.upper_layer")
def places_upper_layer(bench: Bench) -> None:
    """A rule that asks for the upper layer gets its files, and the lower layer's stay in the kernel."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        bench.rules(wanted="open.file.in_upper_layer && open.retval == 0")
        below, above = (
            bench.play(f"open {bench.path(f'merged/{name}')} O_RDONLY -> $0\nclose $0\n")
            for name in ("below", "above")
        )
        bench.equal("opens in the lower layer rejected", 1, below.counted[EventType.OPEN].approver_rejected)
        _one(bench, above, "wanted", bench.path("merged/above"))


@proves("places.opaque")
def places_opaque(bench: Bench) -> None:
    """A directory that takes a lower one's place hides what was in it, and its own files are its own."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        folder = bench.path("merged/folder")
        bench.rules(wanted=f'open.file.path =~ "{folder}/*"', gone=f'unlink.file.path =~ "{folder}/*"')
        before = bench.play(f"open {folder}/old O_RDONLY -> $0\nclose $0\nunlink {folder}/old\n")
        bench.equal(
            "its layer", FileFlags.LOWER, _one(bench, before, "wanted", f"{folder}/old").flags & LAYERS
        )
        _one(bench, before, "gone", f"{folder}/old")
        script = f"rmdir {folder}\nmkdir {folder} 0700\n{_make(f'{folder}/new')}open {folder}/old O_RDONLY\n"
        after = bench.play(script, refused={f"open:5 errno {errno.ENOENT}": 1})
        bench.equal(
            "layer of the new file",
            FileFlags.UPPER,
            _one(bench, after, "wanted", f"{folder}/new").flags & LAYERS,
        )
        mark = os.getxattr(bench.path("base/upper/folder"), "trusted.overlay.opaque")
        bench.equal("the directory is opaque", b"y", mark)


@proves("places.bind_mount")
def places_bind_mount(bench: Bench) -> None:
    """One file by two paths: each event has the path that was used."""
    source, target = bench.path("source"), bench.path("target")
    for folder in (source, target):
        Path(folder).mkdir()
    bench.rules(there=f'open.file.path == "{target}/file"', here=f'open.file.path == "{source}/file"')
    script = f"mount {source} {target} none MS_BIND\n{_make(f'{source}/file')}{_make(f'{target}/file')}"
    played = bench.play(f"{script}umount {target}\n")
    here, there = (
        _one(bench, played, "here", f"{source}/file"),
        _one(bench, played, "there", f"{target}/file"),
    )
    bench.equal("the same inode", here.inode, there.inode)


@proves("places.chroot")
def places_chroot(bench: Bench) -> None:
    """A process in a root of its own is told by the paths of its namespace."""
    root = bench.path("root")
    Path(root).mkdir()
    bench.rules(wanted=f'open.file.path == "{root}/file"')
    child = f"chroot {root}\nchdir /\n{_make('/../file')}"
    _one(bench, bench.play(f"fork -> $1\n{child}end\nwait $1\n"), "wanted", f"{root}/file")


@proves("places.namespace")
def places_namespace(bench: Bench) -> None:
    """What is mounted in another namespace only is told by the path that it has there."""
    source, target = bench.path("source"), bench.path("target")
    for folder in (source, target):
        Path(folder).mkdir()
    bench.rules(wanted=f'open.file.path == "{target}/file"')
    alone = "unshare CLONE_NEWNS\nmount none / none MS_REC|MS_PRIVATE\n"
    inside = f"mount {source} {target} none MS_BIND\n{_make(f'{target}/file')}"
    played = bench.play(f"fork -> $1\n{alone}{inside}end\nwait $1\n")
    _one(bench, played, "wanted", f"{target}/file")
    own, other = (
        bench.play(_make(f"{target}/file")).matches("wanted"),
        played.matches("wanted"),
    )
    bench.equal("one namespace", False, {one.mount_ns for one in own} == {one.mount_ns for one in other})


@proves("places.user_namespace")
def places_user_namespace(bench: Bench) -> None:
    """In a namespace of users, where a process may mount, it is told by the user that the host knows."""
    source, target = bench.path("source"), bench.path("target")
    for folder in (source, target):
        Path(folder).mkdir()
        Path(folder).chmod(0o777)
    alone = f"setresuid {STRANGER} {STRANGER} {STRANGER}\nunshare CLONE_NEWUSER|CLONE_NEWNS\n"
    tried = bench.unwatched(f"fork -> $1\n{alone}mount {source} {target} none MS_BIND\nend\nwait $1\n")
    if tried.failures:
        raise CannotTellError(f"no namespaces of users here: {dict(tried.failures)}")
    bench.rules(wanted=f'open.file.path == "{target}/file"')
    inside = f"{alone}mount {source} {target} none MS_BIND\n{_make(f'{target}/file')}"
    played = bench.play(f"fork -> $1\n{inside}end\nwait $1\n")
    (child,) = (report.ret for report in played.outcome.of("fork"))
    told = {"file.path": f"{target}/file".encode(), "uid": STRANGER, "pid": child, "ppid": bench.pid}
    bench.arrives_once(played, "wanted", told)
    outside = bench.play(_make(f"{target}/file"))
    namespaces = {one.mount_ns for one in (*played.matches("wanted"), *outside.matches("wanted"))}
    bench.equal("different namespaces", 2, len(namespaces))


@proves("places.cgroup_v2")
def places_cgroup_v2(bench: Bench) -> None:
    """A program in a container's group of the unified hierarchy is told with the container."""
    _check_container(bench, UNIFIED)


@proves("places.cgroup_v1")
def places_cgroup_v1(bench: Bench) -> None:
    """The same in a hierarchy of the old kind, which no event's group tells of."""
    with bench.mounted("v1", "cgroup", lambda: "none,name=fim") as hierarchy:
        _check_container(bench, Path(hierarchy))


def _check_container(bench: Bench, hierarchy: Path) -> None:
    """A program in the container, which stands still until it was told of, and then a process beside it."""
    path = bench.file("watched")
    with container(bench.folder, hierarchy) as inside, bench.enriched():
        bench.rules(
            anywhere=f'open.file.path == "{path}"',
            inside=f'open.file.path == "{path}" && container.id == "{inside.id}"',
        )
        program = f"exec {bench.program} hold {path} {HELD}\n"
        played = bench.play(f"fork -> $1\n{inside.enter}{program}end\nstopped $1\n")
        beside = bench.play(f"resume $1\nwait $1\nopen {path} O_RDONLY -> $0\nclose $0\n")
    bench.arrives_once(played, "inside", {"file.path": path.encode(), "ppid": bench.pid})
    told = [_container_of(one) for one in (*played.judged, *beside.judged) if "anywhere" in one.rules]
    bench.equal("containers inside and beside", [(inside.id.encode(), b"docker"), (b"", b"")], told)
    bench.equal("what the rule says beside it", 0, len(beside.matches("inside")))


def _container_of(one: Judged) -> tuple[bytes, bytes]:
    return (one.actor.container.id, one.actor.container.runtime) if one.actor else (b"", b"")


@proves("places.deleted")
def places_deleted(bench: Bench) -> None:
    """A file that has no name any more is told by its last one, and said to be gone."""
    path = bench.file("gone")
    bench.rules(wanted='chmod.file.name == "gone"')
    played = bench.play(f"open {path} O_RDONLY -> $0\nunlink {path}\nfchmod $0 0600\nclose $0\n")
    flags = _one(bench, played, "wanted", path).flags
    bench.equal("said to be gone", FileFlags.DELETED, flags & FileFlags.DELETED)


@proves("places.deleted_directory")
def places_deleted_directory(bench: Bench) -> None:
    """In a directory that is gone the directory itself can still be touched, and is told by its last path."""
    path = bench.path("gone")
    bench.rules(wanted='chmod.file.name == "gone"')
    made = f"mkdir {path} 0700\nchdir {path}\nopen . O_RDONLY|O_DIRECTORY -> $0\nrmdir {path}\n"
    played = bench.play(f"{made}fchmod $0 0711\nclose $0\nchdir /\n")
    flags = _one(bench, played, "wanted", path).flags
    bench.equal("said to be gone", FileFlags.DELETED, flags & FileFlags.DELETED)


@proves("places.read_only")
def places_read_only(bench: Bench) -> None:
    """What a read-only file system refuses is told, with its path and the error."""
    with bench.mounted("fs"):
        path = bench.file("fs/file")
        bench.rules(
            opened=f'open.file.path == "{path}"',
            gone=f'unlink.file.path == "{path}"',
            changed=f'chmod.file.path == "{path}"',
        )
        bench.play(f"mount none {bench.path('fs')} none MS_REMOUNT|MS_RDONLY\n")
        for line, rule in (
            (f"open {path} O_WRONLY", "opened"),
            (f"unlink {path}", "gone"),
            (f"chmod {path} 0600", "changed"),
        ):
            call = line.split()[0]
            played = bench.play(f"{line}\n", refused={f"{call}:1 errno {errno.EROFS}": 1})
            bench.arrives_once(played, rule, {"file.path": path.encode(), "retval": -errno.EROFS})
