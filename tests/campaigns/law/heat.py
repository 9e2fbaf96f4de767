"""Work on the objects of a lattice, so that filters learn about them, and moves that end what they know."""

from __future__ import annotations

from collections.abc import Callable

from tests.campaigns.law.acts import execute
from tests.campaigns.law.opens import MODES, TEXT
from tests.campaigns.law.policies import WRITE, WRITES
from tests.campaigns.law.steps import line, word
from tests.campaigns.law.writer import Writer

_READS = ("O_RDONLY", "O_RDONLY", "O_RDWR", "O_WRONLY|O_CREAT", "O_WRONLY|O_TRUNC")
_TYPES = ("open", "open", "open", "unlink", "chmod", "truncate", "mknod", "close")


def program(w: Writer) -> None:
    """Some of all this."""
    moves = w.scene.lattice.moves
    weights = [often * moves if act in _FAR else often for often, act in TABLE]
    for _, act in w.rng.choices(TABLE, weights, k=w.rng.choice((1, 2, 2, 3))):
        act(w)
    if "exec" in w.scene.focus and w.rng.random() < 0.4:
        execute(w)


def _kind(w: Writer) -> str:
    """A type of event, mostly one that rules are about."""
    rng = w.rng
    focus = sorted(w.scene.focus)
    kind = rng.choice(focus) if focus and rng.random() < 0.85 else rng.choice(_TYPES)
    return rng.choice(WRITES) if kind == WRITE else kind


def _use(w: Writer, kind: str, path: str) -> None:
    """One operation of a type on a path of the lattice."""
    rng = w.rng
    folder = path.rpartition("/")[0]
    extra = word(f"{folder}/{rng.choice((*w.scene.lattice.names, 'n2'))}")
    if kind in ("mkdir", "rmdir"):
        inner = word(f"{folder}/{rng.choice((*w.scene.lattice.inner, 'n3'))}")
        w.add(*(("mkdir", inner, "0755") if kind == "mkdir" or rng.random() < 0.3 else ("rmdir", inner)))
    elif kind in ("rename", "link"):
        w.add(kind, word(path), extra)
    elif kind == "symlink":
        w.add("symlink", word(path), word(f"{folder}/n4"))
        w.add("unlink", word(f"{folder}/n4"))
    elif kind in _ON_FILES:
        call = "utimensat" if kind == "utimes" else kind
        w.add(call, *(one.format(path=word(path), mode=rng.choice(MODES)) for one in _ON_FILES[kind]))
        if kind == "unlink" and rng.random() < 0.8:
            w.add("mknod", word(path), "S_IFREG|0666")
    else:
        fd = w.var()
        w.add("open", w.spelled(path), rng.choice(_READS), "0644", into=fd)
        w.add("close", f"${fd}")


_ON_FILES = {
    "unlink": ("{path}",),
    "mknod": ("{path}", "S_IFREG|0666"),
    "truncate": ("{path}", "0"),
    "chmod": ("{path}", "{mode}"),
    "chown": ("{path}", "0", "0"),
    "utimes": ("AT_FDCWD", "{path}", "now", "0"),
    "setxattr": ("{path}", "trusted.law", TEXT),
    "removexattr": ("{path}", "trusted.law"),
}


def _work(w: Writer) -> None:
    """Several operations of one type in one directory."""
    kind, folder = _kind(w), w.rng.choice(w.scene.lattice.folders)
    for name in w.rng.choices(w.scene.lattice.names, k=w.rng.randint(3, 8)):
        _use(w, kind, f"{folder}/{name}")


def _repeat(w: Writer) -> None:
    """The same file again and again."""
    kind, path = _kind(w), w.rng.choice(w.scene.lattice.files)
    for _ in range(w.rng.randint(2, 6)):
        _use(w, kind, path)


def _visit(w: Writer) -> None:
    """One operation in each directory of a root, in any order."""
    kind = _kind(w)
    root = w.rng.choice(w.scene.lattice.roots)
    folders = [one for one in w.scene.lattice.folders if one.startswith(f"{root}/")]
    for folder in w.rng.sample(folders, min(len(folders), 4)):
        _use(w, kind, f"{folder}/{w.rng.choice(w.scene.lattice.names)}")


def _twins(w: Writer) -> None:
    """The same below one root and below another."""
    kind, path = _kind(w), w.rng.choice(w.scene.lattice.files)
    own = next(root for root in w.scene.lattice.roots if path.startswith(f"{root}/"))
    for root in w.rng.sample(w.scene.lattice.roots, len(w.scene.lattice.roots)):
        for _ in range(w.rng.randint(1, 3)):
            _use(w, kind, path.replace(own, root, 1))


def _move_folder(w: Writer) -> None:
    """A directory is used and gets another's name: for good, in exchange, or for a while."""
    rng = w.rng
    some = w.scene.lattice.upper if rng.random() < 0.5 else w.scene.lattice.lower
    one, other = rng.choice(some), rng.choice(some)
    aside = f"{one.rpartition('/')[0]}/k9"
    kind = _kind(w)
    for name in rng.choices(w.scene.lattice.names, k=rng.randint(0, 3)):
        _use(w, kind, f"{one}/{name}")
    choice = rng.random()
    if choice < 0.4:
        w.add("renameat2", "AT_FDCWD", word(one), "AT_FDCWD", word(other), "RENAME_EXCHANGE")
    elif choice < 0.7:
        for old, new in ((one, aside), (other, one), (aside, other)):
            w.add("rename", word(old), word(new))
    else:
        w.add("rename", w.spelled(one), word(aside))
        for name in rng.sample(w.scene.lattice.names, 1):
            _use(w, kind, f"{aside}/{name}")
        w.add("rename", word(aside), word(one))
    _use(w, kind, f"{other}/{rng.choice(w.scene.lattice.names)}")


def _move_file(w: Writer) -> None:
    """A file is used, gets another's name, mostly in the same directory, and is used by that."""
    one, other = w.rng.sample(w.scene.lattice.files, 2)
    if w.rng.random() < 0.6:
        other = f"{one.rpartition('/')[0]}/{other.rpartition('/')[2]}"
    kind = _kind(w)
    for _ in range(w.rng.randint(0, 3)):
        _use(w, kind, one)
    if w.rng.random() < 0.4:
        w.add("renameat2", "AT_FDCWD", word(one), "AT_FDCWD", word(other), "RENAME_EXCHANGE")
    else:
        w.add("rename", word(one), word(other))
    for _ in range(w.rng.randint(1, 2)):
        _use(w, kind, other)


def _replace(w: Writer) -> None:
    """A file is used and removed, and another one, perhaps elsewhere, gets its inode."""
    one, other = w.rng.choice(w.scene.lattice.files), w.rng.choice(w.scene.lattice.files)
    kind = _kind(w)
    for _ in range(w.rng.randint(0, 3)):
        _use(w, kind, one)
    w.add("unlink", word(one))
    w.add("mknod", word(w.rng.choice((one, other))), "S_IFREG|0666")
    _use(w, kind, w.rng.choice((one, other)))


def _second_name(w: Writer) -> None:
    """A file gets a second name, is used by both, and may lose the first."""
    one, other = w.rng.sample(w.scene.lattice.files, 2)
    w.add("unlink", word(other))
    w.add("link", word(one), word(other))
    kind = _kind(w)
    for path in w.rng.choices((one, other), k=w.rng.randint(2, 3)):
        _use(w, kind, path)
    if w.rng.random() < 0.6:
        w.add("unlink", word(one))
        w.add("mknod", word(one), "S_IFREG|0666")
        _use(w, kind, other)


def forget(w: Writer) -> None:
    """Files are used, and the kernel frees their inodes; those that another process reads get the memory.

    The kernel returns the memory only after a grace period: the process that freed them rarely gets it.
    """
    rng, kind, fd = w.rng, _kind(w), w.var()
    root = rng.choice(w.scene.lattice.roots)
    files = [path for path in w.scene.lattice.files if path.startswith(f"{root}/")]
    for path in rng.sample(files, rng.randint(len(files) // 2, len(files))):
        _use(w, kind, path)
    w.add("sync")  # a dirty inode stays
    w.add("open", "/proc/sys/vm/drop_caches", "O_WRONLY", into=fd)
    w.add("write", f"${fd}", "2")
    w.add("close", f"${fd}")
    reader = Writer(rng, w.scene, w.folders, vars=w.vars)
    for path in rng.sample(files, len(files)):
        _use(reader, kind, path)
    child = w.var()
    w.add("fork", into=child, body=reader.steps)
    w.add("wait", f"${child}")


def _cover(w: Writer) -> None:
    """A directory is mounted on another one, and both are used."""
    one, other = w.rng.sample(w.scene.lattice.folders, 2)
    w.add("mount", word(one), word(other), "none", "MS_BIND")
    w.undo.append(line("umount2", word(other), "MNT_DETACH"))
    kind = _kind(w)
    for folder in w.rng.choices((one, other), k=w.rng.randint(2, 4)):
        _use(w, kind, f"{folder}/{w.rng.choice(w.scene.lattice.names)}")
    if w.rng.random() < 0.6:
        w.add("umount2", word(other), "MNT_DETACH")
        _use(w, kind, f"{other}/{w.rng.choice(w.scene.lattice.names)}")


TABLE: tuple[tuple[int, Callable[[Writer], None]], ...] = (
    (10, _work),
    (4, _repeat),
    (6, _visit),
    (5, _twins),
    (4, _move_folder),
    (6, _move_file),
    (3, _replace),
    (3, _second_name),
    (1, _cover),
    (3, forget),
)
_FAR = (_move_folder, _cover)  # after these nothing that filters learned about paths holds
