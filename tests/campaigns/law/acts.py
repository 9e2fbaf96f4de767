"""What programs do: each function adds an act of a few lines to a program."""

from __future__ import annotations

from collections.abc import Callable

from tests.campaigns.law import deeds
from tests.campaigns.law.opens import FLAGS, MODES, TEXT, open_file, siblings, twins
from tests.campaigns.law.steps import EMPTY, line, word
from tests.campaigns.law.trees import MEMFDS, NEW, Tree
from tests.campaigns.law.writer import Writer


def _ancestor(w: Writer) -> None:
    """Add an operation on a file while a directory above it has another name."""
    path = w.rng.choice([one for one in w.scene.hot if one.count("/") > 3] or list(w.scene.hot))
    root = next(tree.root for tree in w.scene.trees if path.startswith(f"{tree.root}/"))
    parts = path.removeprefix(f"{root}/").split("/")
    depth = w.rng.randint(1, max(1, len(parts) - 1))
    above = f"{root}/{'/'.join(parts[:depth])}"
    moved = f"{root}/{w.rng.choice(('k2', 'tmp/k2', 'd1/k2'))}"
    below = f"{moved}{path.removeprefix(above)}"
    w.add("rename", w.spelled(above), w.spelled(moved))
    for _ in range(w.rng.randint(1, 2)):
        act = w.rng.choice((_touch, open_file, _chmod_path, _create_beside))
        act(w, below)
    if w.rng.random() < 0.85:
        w.add("rename", w.spelled(moved), w.spelled(above))


def _touch(w: Writer, path: str) -> None:
    fd = w.var()
    w.add("open", w.spelled(path), "O_WRONLY|O_TRUNC", into=fd)
    w.add("write", f"${fd}", TEXT)
    w.add("close", f"${fd}")


def _chmod_path(w: Writer, path: str) -> None:
    w.add("chmod", w.spelled(path), w.rng.choice(MODES))


def _create_beside(w: Writer, path: str) -> None:
    head = path.rpartition("/")[0]
    fd = w.var()
    w.add("open", word(f"{head}/{w.rng.choice(NEW)}"), "O_CREAT|O_WRONLY", "0644", into=fd)
    w.add("close", f"${fd}")


def _mount(w: Writer) -> None:
    """Add a mount that is used and removed."""
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
        open_file(
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
    """Add a detached copy of a tree, and operations through its descriptor."""
    folder, _, name = w.rng.choice(w.scene.hot).rpartition("/")
    fd, inner = w.var(), w.var()
    w.add("open_tree", "AT_FDCWD", w.spelled(folder), "OPEN_TREE_CLONE", into=fd)
    name = word(name if w.rng.random() < 0.6 else w.rng.choice(NEW))
    w.add(
        "openat",
        f"${fd}",
        name,
        w.rng.choice(("O_CREAT|O_WRONLY", "O_WRONLY|O_TRUNC", "O_RDONLY")),
        "0644",
        into=inner,
    )
    w.add("write", f"${inner}", TEXT)
    w.add("close", f"${inner}")
    if w.rng.random() < 0.4:
        w.add("unlinkat", f"${fd}", name, "0")
    if w.rng.random() < 0.4:
        w.add("move_mount", f"${fd}", EMPTY, "AT_FDCWD", word(w.folder()), "MOVE_MOUNT_F_EMPTY_PATH")
        w.undo.append(line("umount2", w.steps[-1].words[4], "MNT_DETACH"))
    w.add("close", f"${fd}")


def execute(w: Writer) -> None:
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
        w.add("memfd", rng.choice(MEMFDS), into=memory)
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
    """Add an act as a user without all permissions."""
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
    """Add an operation that needs no privilege, more often on objects of rules."""
    own = [(often, act, types) for often, act, types in TABLE if act in _USER]
    weights = [often * (4 if w.scene.focus & set(types.split()) else 1) for often, _, types in own]
    w.rng.choices(own, weights)[0][1](w)


def _in_thread(w: Writer) -> None:
    inner = Writer(w.rng, w.scene, w.folders, known=list(w.known), cwd=w.cwd, depth=w.depth + 1, vars=w.vars)
    open_file(inner)
    w.add("thread", body=inner.steps)


def _elsewhere(w: Writer) -> None:
    """Add a child with another root, namespace or working directory."""
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
        open_file(inner)
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
    """Add one call on exactly this path."""
    call = w.rng.choice(("open", "open", "chmod", "unlink", "truncate"))
    if call == "open":
        fd = w.var()
        w.add("open", word(path), w.rng.choice(FLAGS) + "|O_NONBLOCK", "0644", into=fd)
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
    """Add an operation on an object through a new link."""
    link = w.linked(w.target())
    w.known.append(link)
    w.rng.choice((open_file, open_file, _chmod_path))(w, link)


def _tmpfile(w: Writer) -> None:
    fd = w.var()
    w.add("open", word(w.folder()), "O_TMPFILE|O_RDWR", "0644", into=fd)
    w.add("close", f"${fd}")


Act = Callable[[Writer], None]
# How often, what, and the types of events that it is about.
TABLE: tuple[tuple[int, Act, str], ...] = (
    (22, open_file, "open close"),
    (10, siblings, "open"),
    (8, twins, "open"),
    (6, deeds.unlink, "unlink"),
    (3, deeds.rmdir, "rmdir"),
    (5, deeds.mkdir, "mkdir"),
    (7, deeds.rename, "rename"),
    (4, deeds.link, "link"),
    (4, deeds.symlink, "symlink"),
    (3, deeds.mknod, "mknod"),
    (5, deeds.chmod, "chmod"),
    (3, deeds.chown, "chown"),
    (3, deeds.truncate, "truncate"),
    (3, deeds.utimes, "utimes"),
    (5, deeds.xattr, "setxattr removexattr"),
    (5, _ancestor, "rename fim.write"),
    (4, _mount, "mount umount"),
    (3, _tree, "fim.write"),
    (4, execute, "exec"),
    (9, _as_user, "open"),
    (1, _in_thread, ""),
    (4, _elsewhere, ""),
    (1, _comm, ""),
    (3, _chdir, ""),
    (4, _by_link, "open chmod"),
    (1, _tmpfile, "open"),
)
_USER = (
    open_file, deeds.unlink, deeds.mkdir, deeds.rename, deeds.link, deeds.symlink, deeds.chmod, deeds.chown,
    deeds.truncate, deeds.utimes, deeds.xattr, _by_link, deeds.rmdir,
)  # fmt: skip
