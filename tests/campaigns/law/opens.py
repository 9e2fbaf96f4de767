"""Opens, by every call and with every spelling, and operations on the descriptor."""

from __future__ import annotations

from tests.campaigns.law.steps import word
from tests.campaigns.law.trees import NEW
from tests.campaigns.law.writer import Writer

TEXT = "text"
FLAGS = (
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
MODES = ("0600", "0644", "0755", "04755", "0", "0777")


def open_file(w: Writer, path: str | None = None, flags: str | None = None) -> None:
    rng = w.rng
    path = path or w.any()
    flags = flags or rng.choice(FLAGS)
    fd = w.var()
    flags += "|O_NONBLOCK"
    mode = rng.choice(MODES)
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
        w.add("write", f"${fd}", TEXT)
    _use(w, fd)
    if rng.random() < 0.8:
        w.add("close", f"${fd}")


def _use(w: Writer, fd: int) -> None:
    """Sometimes add another operation on the descriptor."""
    choice = w.rng.random()
    if choice < 0.05:
        w.add("fchmod", f"${fd}", w.rng.choice(MODES))
    elif choice < 0.09:
        w.add("ftruncate", f"${fd}", w.rng.choice(("0", "7")))
    elif choice < 0.12:
        w.add("fchown", f"${fd}", w.rng.choice(("0", "1000")), "0")
    elif choice < 0.14:
        w.add("fsetxattr", f"${fd}", "trusted.law", TEXT)
    elif choice < 0.17:
        number = 200 + w.rng.randrange(3)
        w.add("dup2", f"${fd}", number)
        w.add("open", f"/proc/self/fd/{number}", w.rng.choice(FLAGS) + "|O_NONBLOCK", "0644", into=30)
        w.add("close", "$30")
        w.add("close", number)
    elif choice < 0.19:
        w.add("pass", f"${fd}", into=30)
        w.add("close", "$30")


def siblings(w: Writer) -> None:
    """Open several files of one directory, so that the filters learn that it is irrelevant."""
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


def twins(w: Writer) -> None:
    """Open the same name in two places: what the filters learn of one must not hide the other."""
    first, second = w.rng.choice(w.scene.trees), w.rng.choice(w.scene.trees)
    for path in w.rng.sample(first.files, w.rng.randint(1, 3)):
        for tree, times in ((first, w.rng.randint(1, 3)), (second, 1)):
            for _ in range(times):
                fd = w.var()
                w.add("open", word(path.replace(first.root, tree.root, 1)), "O_RDONLY", into=fd)
                w.add("close", f"${fd}")
