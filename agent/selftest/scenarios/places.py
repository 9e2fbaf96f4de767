"""Events have the correct path on any file system, as the process's mount namespace sees it."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import closing
from pathlib import Path

from agent.events.model import Event, EventType, File, FileFlags
from agent.rules.constants import INODE_FLAGS
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.filesystems import UNIFIED, container
from agent.selftest.scanner import scanned
from agent.selftest.scenarios import proves
from agent.selftest.scenarios.doors import check_compat, in_child
from agent.selftest.subject import Judged

LAYERS = FileFlags.UPPER | FileFlags.LOWER
USER = 1013  # a user without privileges
HELD = 7  # exit status of a program that was stopped


def _make(path: str) -> str:
    return f"open {path} O_RDWR|O_CREAT 0600 -> $0\nclose $0\n"


def _one(bench: Bench, played: Round, rule: str, path: str) -> File:
    """Return the file of the only event that a rule matched, after checking its path."""
    bench.arrives_once(played, rule, {"file.path": path.encode()})
    events: tuple[Event, ...] = played.matches(rule)
    return events[0].file if events else File()


def _device(number: int) -> int:
    """Return a device number of stat(2) as the kernel stores it."""
    return (number >> 8 & 0xFFF) << 20 | number & 0xFF | number >> 12 & 0xFFF00


def _check_kind(bench: Bench, kind: str) -> None:
    """Create, rename and remove a file on a new file system of this type."""
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
        if kind != "btrfs":  # stat(2) returns a device of its own for each subvolume
            bench.equal("device", _device(known.st_dev), file.device)
        bench.equal("inode", known.st_ino, file.inode)
        moved = bench.play(f"rename {old} {new}\n")
        bench.arrives_once(moved, "moved", {"file.path": old.encode(), "file.inode": known.st_ino})
        gone = bench.play(f"unlink {new}\n")
        bench.arrives_once(gone, "gone", {"file.path": new.encode(), "file.inode": known.st_ino})


@proves("places.tmpfs")
def places_tmpfs(bench: Bench) -> None:
    """On a tmpfs."""
    _check_kind(bench, "tmpfs")


@proves("places.ext4")
def places_ext4(bench: Bench) -> None:
    """On ext4."""
    _check_kind(bench, "ext4")


@proves("places.xfs")
def places_xfs(bench: Bench) -> None:
    """On xfs."""
    _check_kind(bench, "xfs")


@proves("places.btrfs")
def places_btrfs(bench: Bench) -> None:
    """On btrfs."""
    _check_kind(bench, "btrfs")


def _overlay(bench: Bench) -> str:
    """Create the layers of an overlay, and return its mount options."""
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
    """Open a file of each layer by its path in the merged tree."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        bench.rules(wanted=f'open.file.path =~ "{bench.path("merged")}/*"')
        for name, layer in (("below", FileFlags.LOWER), ("above", FileFlags.UPPER)):
            path = bench.path(f"merged/{name}")
            played = bench.play(f"open {path} O_RDONLY -> $0\nclose $0\n")
            bench.equal(f"layer of {name}", layer, _one(bench, played, "wanted", path).flags & LAYERS)


@proves("places.copy_up")
def places_copy_up(bench: Bench) -> None:
    """Write to a file of the lower layer: the process's calls are events, the copy is none."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        path = bench.path("merged/below")
        bench.rules(wanted='open.file.name == "below"', closed='close.file.name == "below"')
        played = bench.play(f"open {path} O_WRONLY -> $0\nwrite $0 x\nclose $0\n")
        _one(bench, played, "wanted", path)
        _one(bench, played, "closed", path)
        again = bench.play(f"open {path} O_RDONLY -> $0\nclose $0\n")
        layer = _one(bench, again, "wanted", path).flags & LAYERS
        bench.equal("layer afterwards", FileFlags.UPPER, layer)


@proves("places.copy_up_attributes")
def places_copy_up_attributes(bench: Bench) -> None:
    """Write to the upper layer's file system, then copy a file up there: overlayfs sets its attributes."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        path, beside = bench.path("merged/below"), bench.path("base/beside")
        bench.rules(
            wanted=f'open.file.path == "{path}"', attributes=f'setxattr.file.path =~ "{bench.path("")}**"'
        )
        # An open for writing asks to write to the mount unless its name is cached (open_last_lookups).
        Path(path).stat()
        played = bench.play(f"{_make(beside)}open {path} O_RDWR -> $0\nclose $0\n")
        bench.arrives_once(played, "wanted", {"file.path": path.encode(), "retval": 0})
        bench.equal("attributes that no process set", 0, len(played.matches("attributes")))
        control = bench.play(f"setxattr {path} trusted.a 1\n")
        _one(bench, control, "attributes", path)


@proves("places.copy_up_unfollowed")
def places_copy_up_unfollowed(bench: Bench) -> None:
    """Change and open files of the lower layer while an agent follows changes of attributes alone."""
    deeds = ("chmod {} 0600", "chown {} 1 1", "truncate {} 0", "open {} O_RDWR -> $0\nclose $0")
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        files = [bench.path(f"merged/below{number}") for number in range(len(deeds))]
        for path in files:
            Path(f"{bench.path('base')}/lower/{Path(path).name}").touch()
            Path(path).stat()
        bench.rules()
        with closing(bench.resident(attributes=f'setxattr.file.path =~ "{bench.path("")}**"')) as resident:
            for path, deed in zip(files, deeds, strict=True):
                bench.play(f"{deed.format(path)}\n")
                bench.equal(f"lost after {deed.split()[0]}", 0, resident.lost())
            bench.play(f"setxattr {files[0]} trusted.a 1\n")
            resident.signal(signal.SIGTERM)
            bench.equal("how it ended", 0, resident.wait())
            bench.equal("matches", 1, len(resident.matches("attributes")))


@proves("places.copy_up_result")
def places_copy_up_result(bench: Bench) -> None:
    """Set an attribute that the upper file system may not have, on an open file of the lower layer."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        files = [bench.path(f"merged/{name}") for name in ("tried", "watched")]
        for path in files:
            Path(bench.path("base"), "lower", Path(path).name).touch()
        lines = [f"open {path} O_RDONLY -> $0\nfsetxattr $0 user.held v\nclose $0\n" for path in files]
        result = bench.unwatched(lines[0]).of("fsetxattr")[0].ret
        bench.evidence.record("fsetxattr on an overlay", True, "any", f"returned {result}")
        bench.rules(watched=f'setxattr.file.path == "{files[1]}"')
        played = bench.play(lines[1], refused={f"fsetxattr:2 errno {-result}": 1} if result else None)
        bench.arrives_once(played, "watched", {"file.path": files[1].encode(), "retval": result})


@proves("places.scanned")
def places_scanned(bench: Bench) -> None:
    """Write to a file while a content scanner watches its mount."""
    with bench.mounted("fs", "ext4") as folder:
        path = f"{folder}/file"
        bench.rules(wanted=f'open.file.path == "{path}"', closed=f'close.file.path == "{path}"')
        with scanned(folder):
            played = bench.play(_make(path))
        _one(bench, played, "wanted", path)
        _one(bench, played, "closed", path)


@proves("places.upper_layer_new")
def places_upper_layer_new(bench: Bench) -> None:
    """Make objects in an overlay; the rules ask for the upper layer, in which they do not lie before."""
    made = {"mkdir": "mkdir {} 0700", "symlink": "symlink x {}", "mknod": "mknod {} S_IFIFO|0600"}
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        bench.rules(**{kind: f"{kind}.file.in_upper_layer" for kind in made})
        for kind, script in made.items():
            path = bench.path(f"merged/{kind}")
            _one(bench, bench.play(f"{script.format(path)}\n"), kind, path)


@proves("places.upper_layer")
def places_upper_layer(bench: Bench) -> None:
    """Open a file of each layer; the rule asks for the upper layer."""
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
    """Replace a directory of the lower layer by a new one, which hides the files of the old."""
    with bench.mounted("base"), bench.mounted("merged", "overlay", lambda: _overlay(bench)):
        folder = bench.path("merged/folder")
        bench.rules(wanted=f'open.file.path =~ "{folder}/*"', gone=f'unlink.file.path =~ "{folder}/*"')
        before = bench.play(f"open {folder}/old O_RDONLY -> $0\nclose $0\nunlink {folder}/old\n")
        bench.equal(
            "layer of the old file",
            FileFlags.LOWER,
            _one(bench, before, "wanted", f"{folder}/old").flags & LAYERS,
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
    """Open one file by two paths."""
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


@proves("places.any_path")
def places_any_path(bench: Bench) -> None:
    """Open a file by its path, a hard link, a symbolic link and a bind mount; then one beside it."""
    path = bench.file("watched")
    beside, hard, soft, mounted = (bench.path(name) for name in ("beside", "hard", "soft", "mounted"))
    Path(beside).touch()
    Path(mounted).touch()
    Path(hard).hardlink_to(path)
    Path(soft).symlink_to(path)
    bench.unwatched(f"mount {path} {mounted} none MS_BIND\n")
    try:
        bench.rules(watched=f'open.file.any_path == "{path}"', linked=f'open.file.any_path == "{soft}"')
        for spelled, reported in ((path, path), (hard, hard), (soft, path), (mounted, mounted)):
            played = bench.play(f"open {spelled} O_RDONLY -> $0\nclose $0\n")
            bench.arrives_once(played, "watched", {"file.path": reported.encode(), "retval": 0})
            bench.equal(f"rules of {spelled}", ("watched", "linked"), played.judged[0].rules)
        unmatched = bench.play(f"open {beside} O_RDONLY -> $0\nclose $0\n")
        bench.equal(
            "rules of a file beside it", [], [rule for each in unmatched.judged for rule in each.rules]
        )
    finally:
        bench.unwatched(f"umount {mounted}\n")


@proves("places.chroot")
def places_chroot(bench: Bench) -> None:
    """Open a file in a chroot."""
    root = bench.path("root")
    Path(root).mkdir()
    bench.rules(wanted=f'open.file.path == "{root}/file"')
    child = f"chroot {root}\nchdir /\n{_make('/../file')}"
    _one(bench, bench.play(f"fork -> $1\n{child}end\nwait $1\n"), "wanted", f"{root}/file")


@proves("places.namespace")
def places_namespace(bench: Bench) -> None:
    """Open a file through a mount that exists only in another mount namespace."""
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
    bench.equal("the same namespace", False, {one.mount_ns for one in own} == {one.mount_ns for one in other})


@proves("places.user_namespace")
def places_user_namespace(bench: Bench) -> None:
    """Mount and open a file in a user namespace; the event has the host's user id."""
    source, target = bench.path("source"), bench.path("target")
    for folder in (source, target):
        Path(folder).mkdir()
        Path(folder).chmod(0o777)
    alone = f"setresuid {USER} {USER} {USER}\nunshare CLONE_NEWUSER|CLONE_NEWNS\n"
    tried = bench.unwatched(f"fork -> $1\n{alone}mount {source} {target} none MS_BIND\nend\nwait $1\n")
    if tried.failures:
        raise CannotTellError(f"no user namespaces here: {dict(tried.failures)}")
    bench.rules(wanted=f'open.file.path == "{target}/file"')
    inside = f"{alone}mount {source} {target} none MS_BIND\n{_make(f'{target}/file')}"
    played = bench.play(f"fork -> $1\n{inside}end\nwait $1\n")
    (child,) = (report.ret for report in played.outcome.of("fork"))
    expected = {"file.path": f"{target}/file".encode(), "uid": USER, "pid": child, "ppid": bench.pid}
    bench.arrives_once(played, "wanted", expected)
    outside = bench.play(_make(f"{target}/file"))
    namespaces = {one.mount_ns for one in (*played.matches("wanted"), *outside.matches("wanted"))}
    bench.equal("different namespaces", 2, len(namespaces))


@proves("places.cgroup_v2")
def places_cgroup_v2(bench: Bench) -> None:
    """In the hierarchy of version 2."""
    _check_container(bench, UNIFIED)


@proves("places.cgroup_v1")
def places_cgroup_v1(bench: Bench) -> None:
    """In a hierarchy of version 1, which the cgroup of an event does not show."""
    with bench.mounted("v1", "cgroup", lambda: "none,name=fim") as hierarchy:
        _check_container(bench, Path(hierarchy))


def _check_container(bench: Bench, hierarchy: Path) -> None:
    """Open a file by a program in the container, which stops until it is reported, and by one beside it."""
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
    judged = [*played.judged, *beside.judged]
    containers = [_container_of(one_open) for one_open in judged if "anywhere" in one_open.rules]
    bench.equal("containers inside and beside", [(inside.id.encode(), b"docker"), (b"", b"")], containers)
    bench.equal("matches of the rule beside it", 0, len(beside.matches("inside")))


def _container_of(judged: Judged) -> tuple[bytes, bytes]:
    actor = judged.actor
    return (actor.container.id, actor.container.runtime) if actor else (b"", b"")


@proves("places.deleted")
def places_deleted(bench: Bench) -> None:
    """Change the mode of an open file after it was removed."""
    path = bench.file("gone")
    bench.rules(wanted='chmod.file.name == "gone"')
    played = bench.play(f"open {path} O_RDONLY -> $0\nunlink {path}\nfchmod $0 0600\nclose $0\n")
    flags = _one(bench, played, "wanted", path).flags
    bench.equal("marked as deleted", FileFlags.DELETED, flags & FileFlags.DELETED)


@proves("places.deleted_directory")
def places_deleted_directory(bench: Bench) -> None:
    """Change the mode of an open directory after it was removed."""
    path = bench.path("gone")
    bench.rules(wanted='chmod.file.name == "gone"')
    made = f"mkdir {path} 0700\nchdir {path}\nopen . O_RDONLY|O_DIRECTORY -> $0\nrmdir {path}\n"
    played = bench.play(f"{made}fchmod $0 0711\nclose $0\nchdir /\n")
    flags = _one(bench, played, "wanted", path).flags
    bench.equal("marked as deleted", FileFlags.DELETED, flags & FileFlags.DELETED)


@proves("places.detached")
def places_detached(bench: Bench) -> None:
    """A file in a copy of a tree of mounts that is attached nowhere passes the filters, and is marked."""
    folder = bench.path("folder")
    Path(folder).mkdir()
    bench.rules(watched=f'open.file.path =~ "{folder}/**"')
    script = f"open_tree AT_FDCWD {folder} OPEN_TREE_CLONE -> $0\nopenat $0 new O_RDWR|O_CREAT 0600 -> $1\n"
    tried = bench.unwatched(f"open_tree AT_FDCWD {folder} OPEN_TREE_CLONE -> $0\nclose $0\n")
    if tried.failures:
        raise CannotTellError(f"open_tree fails here: {dict(tried.failures)}")
    _check_detached(bench, f"{script}close $1\nclose $0\n")
    made = "fsopen tmpfs -> $0\nfsconfig_create $0\nfsmount $0 -> $1\nclose $0\n"
    _check_detached(bench, f"{made}openat $1 new O_RDWR|O_CREAT 0600 -> $2\nclose $2\nclose $1\n")
    bench.rules(marked='open.file.detached && open.file.name == "new"')
    _one(bench, bench.play(f"{script}close $1\nclose $0\n"), "marked", "new")


def _check_detached(bench: Bench, script: str) -> None:
    events = bench.play(script).of(EventType.OPEN)
    files = [(event.file.path, event.file.flags & FileFlags.DETACHED) for event in events]
    bench.equal("opens that pass the filters", [(b"new", FileFlags.DETACHED)], files)


@proves("places.memfd")
def places_memfd(bench: Bench) -> None:
    """A program in a memfd, which has no directory, is reported by the name of the memfd."""
    size = Path(bench.program).stat().st_size
    made = f"memfd needle -> $2\nopen {bench.program} O_RDONLY -> $3\nsendfile $2 $3 0 {size}\nclose $3\n"
    (number,) = (report.ret for report in bench.unwatched(made).of("memfd"))
    bench.rules(watched='exec.file.name =~ "memfd:*"')
    played = bench.play(f"fork -> $1\nexec /proc/self/fd/{number} exit {HELD}\nend\nwait $1\nclose $2\n")
    flags = _one(bench, played, "watched", "memfd:needle").flags
    bench.equal("marked as detached", FileFlags.DETACHED, flags & FileFlags.DETACHED)


@proves("places.read_only")
def places_read_only(bench: Bench) -> None:
    """Fail to change a file on a read-only file system."""
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


def _check_refused(bench: Bench, lines: tuple[tuple[str, str, dict[str, object]], ...]) -> None:
    """Make calls on an open file of a read-only mount, each in a child; with each its rule and fields."""
    with bench.mounted("fs", "ext4"):
        path = bench.file("fs/file")
        bench.rules(**{rule: f'{rule}.file.path == "{path}"' for _, rule, _ in lines})
        bench.play(f"mount none {bench.path('fs')} none MS_REMOUNT|MS_RDONLY\n")
        for line, rule, known in lines:
            script = in_child(f"open {path} O_RDONLY -> $0\n{line}\n")
            played = bench.play(script, refused={f"{line.split()[0]}:3 errno {errno.EROFS}": 1})
            expected = {"file.path": path.encode(), "retval": -errno.EROFS}
            bench.arrives_once(played, rule, known | expected)


@proves("places.read_only_descriptor")
def places_read_only_descriptor(bench: Bench) -> None:
    """Fail to change the attributes of an open file on a read-only mount."""
    owner: dict[str, object] = {"new_uid": 1000, "new_gid": 1001}
    name: dict[str, object] = {"name": b"user.held"}
    _check_refused(
        bench,
        (
            ("fchmod $0 0600", "chmod", {"mode": 0o600}),
            ("fchown $0 1000 1001", "chown", owner),
            ('fchownat $0 "" 1000 1001 AT_EMPTY_PATH', "chown", owner),
            ("fsetxattr $0 user.held v", "setxattr", name),
            ("fremovexattr $0 user.held", "removexattr", name),
            ("chattr $0 FS_APPEND_FL", "chattr", {"flags": INODE_FLAGS["FS_APPEND_FL"]}),
            ("fssetxattr $0 FS_XFLAG_IMMUTABLE", "chattr", {"flags": INODE_FLAGS["FS_IMMUTABLE_FL"]}),
        ),
    )


@proves("places.read_only_compat")
def places_read_only_compat(bench: Bench) -> None:
    """The same by 32-bit calls, of which one takes ids of 16 bits."""
    check_compat(bench)
    _check_refused(
        bench,
        (
            ("fchown16 $0 66536 65535", "chown", {"new_uid": 1000, "new_gid": (1 << 32) - 1}),
            ("fchown32 $0 66536 65535", "chown", {"new_uid": 66536, "new_gid": 65535}),
            ("fsetxattr32 $0 user.held v", "setxattr", {"name": b"user.held"}),
            ("fremovexattr32 $0 user.held", "removexattr", {"name": b"user.held"}),
        ),
    )
