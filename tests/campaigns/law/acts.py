"""What programs do: each function adds one deed of a few lines to a program."""

from __future__ import annotations

from collections.abc import Callable

from tests.campaigns.law.steps import EMPTY, line, word
from tests.campaigns.law.trees import NEW, Tree
from tests.campaigns.law.writer import Writer

_TEXT = "text"
_FLAGS = (
    "O_RDONLY",
    "O_RDONLY|O_CLOEXEC",
    "O_WRONLY",
    "O_RDWR",
    "O_WRONLY|O_APPEND",
    "O_WRONLY|O_TRUNC",
    "O_RDWR|O_CREAT",
    "O_WRONLY|O_CREAT|O_TRUNC",
    "O_WRONLY|O_CREAT|O_EXCL",
    "O_RDONLY|O_NOFOLLOW",
    "O_RDONLY|O_DIRECTORY",
    "O_WRONLY|O_DIRECTORY",
    "O_RDONLY|O_NOATIME",
    "O_WRONLY|O_SYNC",
)
_MODES = ("0600", "0644", "0755", "04755", "0", "0777")


def _open(w: Writer, path: str | None = None, flags: str | None = None) -> None:
    rng = w.rng
    path = path or w.any()
    flags = flags or rng.choice(_FLAGS)
    fd = w.var()
    flags += "|O_NONBLOCK"
    mode = rng.choice(_MODES)
    door = rng.random()
    if door < 0.6:
        w.add("open", w.spelled(path), flags, mode, into=fd)
    elif door < 0.75:
        w.add("openat", *w.at(path), flags, mode, into=fd)
    elif door < 0.83:
        given = mode if "O_CREAT" in flags else "0"
        w.add("openat2", *w.at(path), flags, given, rng.choice(("0", "0", "RESOLVE_NO_SYMLINKS")), into=fd)
    elif door < 0.87:
        w.add("creat", w.spelled(path), mode, into=fd)
    elif door < 0.90:
        w.add("open32", w.spelled(path), flags, mode, into=fd)
    elif door < 0.95:
        w.add("ring_openat", *w.at(path), flags, mode, into=fd)
    else:
        w.add("open_handle", w.spelled(path), "O_RDONLY", into=fd)
    if rng.random() < 0.25:
        w.add("write", f"${fd}", _TEXT)
    _use(w, fd)
    if rng.random() < 0.8:
        w.add("close", f"${fd}")


def _use(w: Writer, fd: int) -> None:
    """Sometimes another operation through the descriptor."""
    choice = w.rng.random()
    if choice < 0.05:
        w.add("fchmod", f"${fd}", w.rng.choice(_MODES))
    elif choice < 0.09:
        w.add("ftruncate", f"${fd}", w.rng.choice(("0", "7")))
    elif choice < 0.12:
        w.add("fchown", f"${fd}", w.rng.choice(("0", "1000")), "0")
    elif choice < 0.14:
        w.add("fsetxattr", f"${fd}", "trusted.law", _TEXT)
    elif choice < 0.17:
        number = 200 + w.rng.randrange(3)
        w.add("dup2", f"${fd}", number)
        w.add("open", f"/proc/self/fd/{number}", w.rng.choice(_FLAGS) + "|O_NONBLOCK", "0644", into=30)
        w.add("close", "$30")
        w.add("close", number)
    elif choice < 0.19:
        w.add("pass", f"${fd}", into=30)
        w.add("close", "$30")


def _siblings(w: Writer) -> None:
    """Opens of several files of one directory: what teaches the filters that nothing in it matters."""
    folder = w.folder()
    files = [path for tree in w.scene.trees for path in tree.files if path.rsplit("/", 1)[0] == folder]
    files = files or [f"{folder}/{name}" for name in NEW[:3]]
    for _ in range(w.rng.randint(2, 4)):
        fd = w.var()
        w.add(
            "open",
            w.spelled(w.rng.choice(files)),
            w.rng.choice(("O_RDONLY", "O_RDWR|O_CREAT")),
            "0644",
            into=fd,
        )
        w.add("close", f"${fd}")


def _unlink(w: Writer) -> None:
    path = w.any()
    door = w.rng.random()
    if door < 0.5:
        w.add("unlink", w.spelled(path))
    elif door < 0.8:
        w.add("unlinkat", *w.at(path), "0")
    elif door < 0.9:
        w.add("ring_unlinkat", *w.at(path), "0")
    else:
        w.add("unlink32", w.spelled(path))


def _rmdir(w: Writer) -> None:
    path = w.rng.choice([*w.known, w.folder()])
    if w.rng.random() < 0.6:
        w.add("rmdir", w.spelled(path))
    else:
        w.add("unlinkat", *w.at(path), "AT_REMOVEDIR")


def _mkdir(w: Writer) -> None:
    path = w.fresh() if w.rng.random() < 0.8 else w.folder()
    mode = w.rng.choice(_MODES)
    door = w.rng.random()
    if door < 0.6:
        w.add("mkdir", w.spelled(path), mode)
    elif door < 0.85:
        w.add("mkdirat", *w.at(path), mode)
    elif door < 0.95:
        w.add("ring_mkdirat", *w.at(path), mode)
    else:
        w.add("mkdir32", w.spelled(path), mode)


def _rename(w: Writer) -> None:
    old = w.any() if w.rng.random() < 0.7 else w.folder()
    new = w.fresh() if w.rng.random() < 0.6 else w.target()
    door = w.rng.random()
    if door < 0.5:
        w.add("rename", w.spelled(old), w.spelled(new))
    elif door < 0.9:
        flags = w.rng.choice(("0", "RENAME_NOREPLACE", "RENAME_EXCHANGE", "RENAME_EXCHANGE", "WHITEOUT"))
        w.add("renameat2", *w.at(old), *w.at(new), flags)
    else:
        w.add("ring_renameat", *w.at(old), *w.at(new))


def _link(w: Writer) -> None:
    old, new = w.target(), w.fresh()
    door = w.rng.random()
    if door < 0.5:
        w.add("link", w.spelled(old), w.spelled(new))
    elif door < 0.9:
        w.add("linkat", *w.at(old), *w.at(new), w.rng.choice(("0", "AT_SYMLINK_FOLLOW")))
    else:
        w.add("ring_linkat", *w.at(old), *w.at(new))


def _symlink(w: Writer) -> None:
    if w.rng.random() < 0.7:
        w.add("symlink", word(w.any()), w.spelled(w.fresh()))
    else:
        w.add("symlinkat", word(w.any()), *w.at(w.fresh()))


def _mknod(w: Writer) -> None:
    kind = w.rng.choice(("S_IFIFO", "S_IFREG", "S_IFSOCK", "S_IFCHR"))
    numbers = ("259",) if kind == "S_IFCHR" else ()
    if w.rng.random() < 0.7:
        w.add("mknod", w.spelled(w.fresh()), f"{kind}|0644", *numbers)
    else:
        w.add("mknodat", *w.at(w.fresh()), f"{kind}|0644", *numbers)


def _chmod(w: Writer) -> None:
    path, mode = w.any(), w.rng.choice(_MODES)
    door = w.rng.random()
    if door < 0.5:
        w.add("chmod", w.spelled(path), mode)
    elif door < 0.85:
        w.add("fchmodat", *w.at(path), mode)
    elif door < 0.95:
        w.add("fchmodat2", *w.at(path), mode, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))
    else:
        w.add("chmod32", w.spelled(path), mode)


def _chown(w: Writer) -> None:
    path, owner, group = w.any(), w.rng.choice(("0", "1000", "-1")), w.rng.choice(("0", "1000", "-1"))
    door = w.rng.random()
    if door < 0.5:
        w.add("chown", w.spelled(path), owner, group)
    elif door < 0.7:
        w.add("lchown", w.spelled(path), owner, group)
    else:
        w.add("fchownat", *w.at(path), owner, group, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))


def _truncate(w: Writer) -> None:
    w.add(w.rng.choice(("truncate", "truncate", "truncate32")), w.spelled(w.any()), w.rng.choice(("0", "7")))


def _utimes(w: Writer) -> None:
    when = w.rng.choice(("now", "1", "1000000"))
    w.add("utimensat", *w.at(w.any()), when, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))


def _xattr(w: Writer) -> None:
    name = w.rng.choice(("user.law", "trusted.law", "user.other", "security.law", "bad", "user."))
    path = w.spelled(w.any())
    door = w.rng.random()
    if door < 0.35:
        w.add("setxattr", path, name, _TEXT)
    elif door < 0.5:
        w.add("lsetxattr", path, name, _TEXT, w.rng.choice(("0", "XATTR_CREATE", "XATTR_REPLACE")))
    elif door < 0.7:
        w.add("removexattr", path, name)
    elif door < 0.85:
        w.add("lremovexattr", path, name)
    elif door < 0.93:
        w.add("ring_setxattr", path, name, _TEXT)
    else:
        w.add("removexattrat", *w.at(w.any()), "0", name)


def _ancestor(w: Writer) -> None:
    """An operation on a file while a directory above it has another name."""
    path = w.rng.choice([one for one in w.scene.hot if one.count("/") > 3] or list(w.scene.hot))
    root = next(tree.root for tree in w.scene.trees if path.startswith(f"{tree.root}/"))
    parts = path.removeprefix(f"{root}/").split("/")
    depth = w.rng.randint(1, max(1, len(parts) - 1))
    above = f"{root}/{'/'.join(parts[:depth])}"
    moved = f"{root}/{w.rng.choice(('k2', 'tmp/k2', 'd1/k2'))}"
    below = f"{moved}{path.removeprefix(above)}"
    w.add("rename", w.spelled(above), w.spelled(moved))
    for _ in range(w.rng.randint(1, 2)):
        act = w.rng.choice((_touch, _open, _chmod_path, _create_beside))
        act(w, below)
    if w.rng.random() < 0.85:
        w.add("rename", w.spelled(moved), w.spelled(above))


def _touch(w: Writer, path: str) -> None:
    fd = w.var()
    w.add("open", w.spelled(path), "O_WRONLY|O_TRUNC", into=fd)
    w.add("write", f"${fd}", _TEXT)
    w.add("close", f"${fd}")


def _chmod_path(w: Writer, path: str) -> None:
    w.add("chmod", w.spelled(path), w.rng.choice(_MODES))


def _create_beside(w: Writer, path: str) -> None:
    head = path.rpartition("/")[0]
    fd = w.var()
    w.add("open", word(f"{head}/{w.rng.choice(NEW)}"), "O_CREAT|O_WRONLY", "0644", into=fd)
    w.add("close", f"${fd}")


def _mount(w: Writer) -> None:
    """A mount that comes, is used, and goes."""
    folder = w.folder()
    undo = line("umount2", word(folder), "MNT_DETACH")
    door = w.rng.random()
    if door < 0.35:
        w.add(
            "mount",
            w.rng.choice(("none", "law", "tmpfs")),
            word(folder),
            "tmpfs",
            w.rng.choice(("0", "MS_NOSUID", "MS_RDONLY")),
        )
    elif door < 0.65:
        w.add("mount", word(w.folder()), word(folder), "none", w.rng.choice(("MS_BIND", "MS_BIND|MS_REC")))
    elif door < 0.85:
        _new_mount(w, folder)
    else:
        w.add(
            "mount", "none", word(folder), w.rng.choice(("nothing", "tmpfs")), "MS_REMOUNT|MS_BIND|MS_RDONLY"
        )
    for _ in range(w.rng.randint(0, 2)):
        _open(
            w,
            f"{folder}/{w.rng.choice(NEW)}",
            w.rng.choice(("O_RDWR|O_CREAT", "O_WRONLY|O_CREAT|O_EXCL", "O_RDONLY")),
        )
    if w.rng.random() < 0.7:
        w.add("umount2", w.spelled(folder), w.rng.choice(("0", "MNT_DETACH", "UMOUNT_NOFOLLOW")))
    w.undo.append(undo)


def _new_mount(w: Writer, folder: str) -> None:
    context, mount = w.var(), w.var()
    w.add("fsopen", "tmpfs", into=context)
    if w.rng.random() < 0.5:
        w.add("fsconfig", f"${context}", "source", "law")
    w.add("fsconfig_create", f"${context}")
    w.add("fsmount", f"${context}", into=mount)
    w.add("move_mount", f"${mount}", EMPTY, "AT_FDCWD", word(folder), "MOVE_MOUNT_F_EMPTY_PATH")


def _tree(w: Writer) -> None:
    """A detached copy of a tree, and operations through its descriptor."""
    folder = w.folder()
    fd, inner = w.var(), w.var()
    w.add("open_tree", "AT_FDCWD", w.spelled(folder), "OPEN_TREE_CLONE", into=fd)
    name = w.rng.choice(NEW)
    w.add(
        "openat",
        f"${fd}",
        name,
        w.rng.choice(("O_CREAT|O_WRONLY", "O_WRONLY|O_TRUNC", "O_RDONLY")),
        "0644",
        into=inner,
    )
    w.add("write", f"${inner}", _TEXT)
    w.add("close", f"${inner}")
    if w.rng.random() < 0.4:
        w.add("unlinkat", f"${fd}", name, "0")
    if w.rng.random() < 0.4:
        w.add("move_mount", f"${fd}", EMPTY, "AT_FDCWD", word(w.folder()), "MOVE_MOUNT_F_EMPTY_PATH")
        w.undo.append(line("umount2", w.steps[-1].words[4], "MNT_DETACH"))
    w.add("close", f"${fd}")


def _exec(w: Writer) -> None:
    """A program that is started, or may not be."""
    rng = w.rng
    root = rng.choice(w.scene.trees).root
    choice = rng.random()
    words: tuple[str, ...]
    if choice < 0.35:
        words = (
            "exec",
            w.spelled(rng.choice((f"{root}/bin/noexec", f"{root}/bin/junk", w.any()))),
            "one",
            "two",
        )
    elif choice < 0.6:
        words = ("exec", word(w.scene.tool), "exit", rng.choice(("0", "7")))
    elif choice < 0.8:
        link = w.linked(w.scene.tool)
        words = ("exec", w.spelled(link), "exit", "3")
    else:
        number = 210
        memory, source = w.var(), w.var()
        w.add("memfd", rng.choice(("law", "runme", "x")), into=memory)
        w.add("open", word(w.scene.world.generator), "O_RDONLY", into=source)
        w.add("sendfile", f"${memory}", f"${source}", "0", "8000000")
        w.add("close", f"${source}")
        w.add("dup2", f"${memory}", number)
        if rng.random() < 0.5:
            words = ("exec", f"/proc/self/fd/{number}", "exit", "0")
        else:
            words = ("execveat", f"${memory}", EMPTY, "AT_EMPTY_PATH", "law", "exit", "0")
    child = w.var()
    body = [line(*words)]
    if rng.random() < 0.3:
        body.insert(0, line("setuid", w.scene.world.user))
    w.add("fork", into=child, body=body)
    w.add("wait", f"${child}")


def _as_user(w: Writer) -> None:
    """The same as a user who may not do everything."""
    inner = Writer(w.rng, w.scene, w.folders, known=list(w.known), cwd=w.cwd, depth=w.depth + 1, vars=w.vars)
    inner.add("setgid", w.scene.world.user)
    inner.add("setuid", w.scene.world.user)
    for _ in range(w.rng.randint(1, 3)):
        _any_user(inner)
    child = w.var()
    w.add("fork", into=child, body=inner.steps)
    w.add("wait", f"${child}")
    w.undo += inner.undo


def _any_user(w: Writer) -> None:
    """An operation that no privilege is needed for; of what rules are about more often."""
    own = [(often, act, types) for often, act, types in TABLE if act in _USER]
    weights = [often * (4 if w.scene.focus & set(types.split()) else 1) for often, _, types in own]
    w.rng.choices(own, weights)[0][1](w)


def _in_thread(w: Writer) -> None:
    inner = Writer(w.rng, w.scene, w.folders, known=list(w.known), cwd=w.cwd, depth=w.depth + 1, vars=w.vars)
    _open(inner)
    w.add("thread", body=inner.steps)


def _elsewhere(w: Writer) -> None:
    """A child in a root, a namespace or a directory of its own."""
    inner = Writer(w.rng, w.scene, w.folders, known=list(w.known), depth=w.depth + 1, vars=w.vars)
    choice = w.rng.random()
    root = w.rng.choice(w.scene.trees).root
    if choice < 0.4:
        inner.add("chroot", word(root))
        inner.add("chdir", "/")
        # If the chroot is refused, these names must not be any of the guest's own files.
        below = [
            path.removeprefix(root)
            for path in Tree(root).files
            if not path.startswith((f"{root}/etc", f"{root}/bin"))
        ]
        for _ in range(w.rng.randint(1, 3)):
            _plain(inner, w.rng.choice(below))
    elif choice < 0.7:
        inner.add("unshare", "CLONE_NEWNS")
        inner.add("mount", "none", "/", "none", "MS_REC|MS_PRIVATE")
        _mount(inner)
        _open(inner)
        inner.undo.clear()
    else:
        inner.cwd = w.folder()
        inner.add("chdir", word(inner.cwd))
        for _ in range(w.rng.randint(1, 3)):
            _any_user(inner)
    child = w.var()
    w.add("fork", into=child, body=inner.steps)
    w.add("wait", f"${child}")


def _plain(w: Writer, path: str) -> None:
    """One call on just this path."""
    call = w.rng.choice(("open", "open", "chmod", "unlink", "truncate"))
    if call == "open":
        fd = w.var()
        w.add("open", word(path), w.rng.choice(_FLAGS) + "|O_NONBLOCK", "0644", into=fd)
        w.add("close", f"${fd}")
    elif call == "chmod":
        w.add("chmod", word(path), "0640")
    elif call == "truncate":
        w.add("truncate", word(path), "0")
    else:
        w.add("unlink", word(path))


def _comm(w: Writer) -> None:
    w.add("comm", w.rng.choice(("worker", "sh", "law\\x20law")))


def _chdir(w: Writer) -> None:
    if not w.depth:
        w.cwd = w.folder()
        w.add("chdir", word(w.cwd))


def _by_link(w: Writer) -> None:
    """An object through a link that was just made."""
    link = w.linked(w.target())
    w.known.append(link)
    w.rng.choice((_open, _open, _chmod_path))(w, link)


def _tmpfile(w: Writer) -> None:
    fd = w.var()
    w.add("open", word(w.folder()), "O_TMPFILE|O_RDWR", "0644", into=fd)
    w.add("close", f"${fd}")


Act = Callable[[Writer], None]
# How often, what, and the types of events that it is about.
TABLE: tuple[tuple[int, Act, str], ...] = (
    (22, _open, "open close"),
    (14, _siblings, "open"),
    (6, _unlink, "unlink"),
    (3, _rmdir, "rmdir"),
    (5, _mkdir, "mkdir"),
    (7, _rename, "rename"),
    (4, _link, "link"),
    (4, _symlink, "symlink"),
    (3, _mknod, "mknod"),
    (5, _chmod, "chmod"),
    (3, _chown, "chown"),
    (3, _truncate, "truncate"),
    (3, _utimes, "utimes"),
    (5, _xattr, "setxattr removexattr"),
    (4, _ancestor, "rename fim.write"),
    (4, _mount, "mount umount"),
    (2, _tree, "open fim.write"),
    (4, _exec, "exec"),
    (9, _as_user, "open"),
    (1, _in_thread, ""),
    (4, _elsewhere, ""),
    (1, _comm, ""),
    (3, _chdir, ""),
    (4, _by_link, "open chmod"),
    (1, _tmpfile, "open"),
)
_USER = (
    _open, _unlink, _mkdir, _rename, _link, _symlink, _chmod, _chown, _truncate, _utimes, _xattr, _by_link,
    _rmdir,
)  # fmt: skip
