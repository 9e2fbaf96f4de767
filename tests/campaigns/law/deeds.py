"""Operations on names and attributes, each by one of its system calls."""

from __future__ import annotations

from tests.campaigns.law.opens import MODES, TEXT
from tests.campaigns.law.steps import word
from tests.campaigns.law.writer import Writer


def unlink(w: Writer) -> None:
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


def rmdir(w: Writer) -> None:
    path = w.rng.choice([*w.known, w.folder()])
    if w.rng.random() < 0.6:
        w.add("rmdir", w.spelled(path))
    else:
        w.add("unlinkat", *w.at(path), "AT_REMOVEDIR")


def mkdir(w: Writer) -> None:
    path = w.fresh() if w.rng.random() < 0.8 else w.folder()
    mode = w.rng.choice(MODES)
    door = w.rng.random()
    if door < 0.6:
        w.add("mkdir", w.spelled(path), mode)
    elif door < 0.85:
        w.add("mkdirat", *w.at(path), mode)
    elif door < 0.95:
        w.add("ring_mkdirat", *w.at(path), mode)
    else:
        w.add("mkdir32", w.spelled(path), mode)


def rename(w: Writer) -> None:
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


def link(w: Writer) -> None:
    old, new = w.target(), w.fresh()
    door = w.rng.random()
    if door < 0.5:
        w.add("link", w.spelled(old), w.spelled(new))
    elif door < 0.9:
        w.add("linkat", *w.at(old), *w.at(new), w.rng.choice(("0", "AT_SYMLINK_FOLLOW")))
    else:
        w.add("ring_linkat", *w.at(old), *w.at(new))


def symlink(w: Writer) -> None:
    if w.rng.random() < 0.7:
        w.add("symlink", word(w.any()), w.spelled(w.fresh()))
    else:
        w.add("symlinkat", word(w.any()), *w.at(w.fresh()))


def mknod(w: Writer) -> None:
    kind = w.rng.choice(("S_IFIFO", "S_IFREG", "S_IFSOCK", "S_IFCHR"))
    numbers = ("259",) if kind == "S_IFCHR" else ()
    if w.rng.random() < 0.7:
        w.add("mknod", w.spelled(w.fresh()), f"{kind}|0644", *numbers)
    else:
        w.add("mknodat", *w.at(w.fresh()), f"{kind}|0644", *numbers)


def chmod(w: Writer) -> None:
    path, mode = w.any(), w.rng.choice(MODES)
    door = w.rng.random()
    if door < 0.5:
        w.add("chmod", w.spelled(path), mode)
    elif door < 0.85:
        w.add("fchmodat", *w.at(path), mode)
    elif door < 0.95:
        w.add("fchmodat2", *w.at(path), mode, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))
    else:
        w.add("chmod32", w.spelled(path), mode)


def chown(w: Writer) -> None:
    path, owner, group = w.any(), w.rng.choice(("0", "1000", "-1")), w.rng.choice(("0", "1000", "-1"))
    door = w.rng.random()
    if door < 0.5:
        w.add("chown", w.spelled(path), owner, group)
    elif door < 0.7:
        w.add("lchown", w.spelled(path), owner, group)
    else:
        w.add("fchownat", *w.at(path), owner, group, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))


def truncate(w: Writer) -> None:
    w.add(w.rng.choice(("truncate", "truncate", "truncate32")), w.spelled(w.any()), w.rng.choice(("0", "7")))


def utimes(w: Writer) -> None:
    when = w.rng.choice(("now", "1", "1000000"))
    w.add("utimensat", *w.at(w.any()), when, w.rng.choice(("0", "AT_SYMLINK_NOFOLLOW")))


def xattr(w: Writer) -> None:
    name = w.rng.choice(("user.law", "trusted.law", "user.other", "security.law", "bad", "user."))
    path = w.spelled(w.any())
    door = w.rng.random()
    if door < 0.35:
        w.add("setxattr", path, name, TEXT)
    elif door < 0.5:
        w.add("lsetxattr", path, name, TEXT, w.rng.choice(("0", "XATTR_CREATE", "XATTR_REPLACE")))
    elif door < 0.7:
        w.add("removexattr", path, name)
    elif door < 0.85:
        w.add("lremovexattr", path, name)
    elif door < 0.93:
        w.add("ring_setxattr", path, name, TEXT)
    else:
        w.add("removexattrat", *w.at(w.any()), "0", name)
