"""Random rules over the objects of a scene, as data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.campaigns.law.trees import MEMFDS, NEW
from tests.campaigns.law.writer import Scene

WRITE = "fim.write"
# The event types that fim.write stands for, as docs/rules.md lists them.
WRITES = (
    "open", "unlink", "rmdir", "mkdir", "rename", "link", "symlink", "mknod", "truncate", "chmod", "chown",
    "utimes", "setxattr", "removexattr", "chattr",
)  # fmt: skip
_TYPES: Mapping[str, int] = {
    "open": 16, WRITE: 12, "unlink": 6, "rmdir": 3, "mkdir": 6, "rename": 8, "link": 5, "symlink": 4,
    "mknod": 4, "truncate": 5, "chmod": 6, "chown": 5, "utimes": 4, "setxattr": 4, "removexattr": 3,
    "close": 5, "exec": 12, "mount": 4, "umount": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A rule, and the type of its events: a label, or fim.write."""

    id: str
    kind: str
    expression: str

    @property
    def types(self) -> tuple[str, ...]:
        """Return the labels of the events that it can match."""
        return WRITES if self.kind == WRITE else (self.kind,)


def rendered(rules: Iterable[Rule]) -> bytes:
    """Return the policy file."""
    return json.dumps({"rules": [{"id": rule.id, "expression": rule.expression} for rule in rules]}).encode()


def quoted(text: str) -> str:
    """Return a text of the rule language, byte by byte."""
    raw = text.encode("utf-8", "surrogateescape")
    plain = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n"}
    return '"' + "".join(plain.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in raw) + '"'


def _object(kind: str) -> str:
    return (
        "mount.mountpoint" if kind == "mount" else "umount.mountpoint" if kind == "umount" else f"{kind}.file"
    )


def globbed(rng: random.Random, path: str) -> str:
    """Return a pattern that matches the path, with some components replaced as a whole or in part."""
    parts = path.split("/")[1:]
    choice = rng.random()
    if choice < 0.4:
        keep = rng.randint(1, len(parts) - 1)
        return "/" + "/".join([*parts[:keep], "**"])
    if choice < 0.5:
        keep = rng.randint(1, len(parts) - 1)
        return "/" + "/".join([*parts[:keep], "**", parts[-1]])
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(parts))
        part = parts[at]
        parts[at] = rng.choice(("*", f"{part[:1]}*" if part else "*", f"*{part[-2:]}" if part else "*"))
    return "/" + "/".join(parts)


def _path(rng: random.Random, scene: Scene, kind: str, names: bool) -> str:
    """A condition on the path or, if `names`, perhaps on the base name alone."""
    if scene.heated and kind != "exec" and rng.random() < 0.85:
        return _broad(rng, scene, kind)
    if kind == "exec" and rng.random() < 0.3:
        return _program(rng)
    field = _object(kind)
    path = _wanted(rng, scene, kind)
    choice = rng.random() * (1.0 if names else 0.68)
    if choice < 0.3:
        return f"{field}.path == {quoted(path)}"
    if choice < 0.6:
        return f"{field}.path =~ {quoted(globbed(rng, path))}"
    if choice < 0.68:
        others = [path, *(_wanted(rng, scene, kind) for _ in range(rng.randint(1, 3)))]
        return f"{field}.path in [{', '.join(map(quoted, others))}]"
    name = path.rpartition("/")[2]
    if choice < 0.8:
        return f"{field}.name == {quoted(name)}"
    if choice < 0.86:
        return f"{field}.name =~ {quoted(rng.choice((f'{name[:1]}*', f'*{name[-1:]}', f'*{name[1:2]}*')))}"
    if choice < 0.9:
        return f"{field}.name in [{quoted(name)}, {quoted(rng.choice(NEW))}]"
    root = rng.choice(scene.places).path
    if choice < 0.95:
        return f'{field}.path =~ r"^{root}/.*{name[:1] if name[:1].isalnum() else "."}"'
    other = globbed(rng, _wanted(rng, scene, kind))
    return f"({field}.path =~ {quoted(f'{root}/**')} && {field}.path !~ {quoted(other)})"


def _program(rng: random.Random) -> str:
    """A condition on a program without a directory."""
    name = rng.choice(MEMFDS)
    return rng.choice(
        (
            f'exec.file.name == "memfd:{name}"',
            f'exec.file.path == "memfd:{name}"',
            f'exec.file.path =~ "memfd:{name[:1]}*"',
            'exec.file.name =~ "memfd:*"',
        )
    )


def _broad(rng: random.Random, scene: Scene, kind: str) -> str:
    """A condition that passes the approvers for many paths of the lattice, and that few of them fulfil."""
    of_folders = kind in ("mkdir", "rmdir", "mount", "umount") or (kind == "rename" and rng.random() < 0.4)
    known = scene.lattice.lower if of_folders else scene.lattice.files
    field, path = f"{_object(kind)}.path", rng.choice(known)
    root = next(one for one in scene.lattice.roots if path.startswith(f"{one}/"))
    inner, name = path.removeprefix(f"{root}/").rpartition("/")[::2]
    above = rng.choice(("/w", root.rpartition("/")[0], root, root))
    choice = rng.random()
    if choice < 0.52:
        parts = [*root.split("/")[1:], *inner.split("/")]
        starred = rng.sample(range(1, len(parts)), min(len(parts) - 1, rng.choice((1, 1, 2))))
        for at in starred:
            parts[at] = rng.choice(("*", "*", f"{parts[at][:1]}*"))
        last = rng.choice((name, "*", f"{name[:1]}*", f"{name[:1]}*", "**"))
        return f"{field} =~ {quoted('/'.join(['', *parts, last]))}"
    if choice < 0.66:
        some = scene.lattice.roots if len(scene.lattice.roots) > 1 and rng.random() < 0.5 else None
        folder = rng.choice(some or scene.lattice.folders)
        return f"({field} =~ {quoted(f'{above}/**')} && {field} !~ {quoted(f'{folder}/**')})"
    if choice < 0.8:
        last = rng.choice((f"{name[:1]}.*", "[^/]*", name.replace(".", "[.]")))
        return f'{field} =~ r"^{above}/.*{inner}/{last}$"'
    if choice < 0.95:
        return f"({field} =~ {quoted(f'{above}/**')} && {field} =~ {quoted(f'/**/{inner}/{name[:1]}*')})"
    others = rng.sample(known, min(3, len(known)))
    return f"({field} =~ {quoted(f'{above}/**')} && {field} in [{', '.join(map(quoted, [path, *others]))}])"


def _wanted(rng: random.Random, scene: Scene, kind: str) -> str:
    if kind == "exec":
        root = rng.choice(scene.places).path
        return rng.choice((scene.tool, f"{root}/bin/noexec", f"{root}/bin/junk"))
    path = rng.choice(scene.hot)
    if rng.random() < (0.7 if kind in ("mkdir", "symlink", "mknod") else 0.25):
        path = f"{path.rpartition('/')[0]}/{rng.choice(NEW)}"
    return path


_OFTEN = ("unlink", "rename", "chmod", "truncate", "mknod", "mkdir")  # types that programs make many of
Term = Callable[[random.Random, str], str]


def _retval(rng: random.Random, kind: str) -> str:
    return f"{kind}.retval " + rng.choice(
        ("== EACCES", "== EPERM", "< 0", ">= 0", "== EEXIST", "!= 0", "== EROFS")
    )


def _who(rng: random.Random, kind: str) -> str:
    del kind
    return rng.choice(
        (
            "process.uid == 1000",
            "process.uid != 0",
            "process.uid == 0",
            "process.gid == 1000",
            'process.comm == "worker"',
        )
    )


def _flags(rng: random.Random, kind: str) -> str:
    del kind
    return rng.choice(
        (
            "open.flags & (O_WRONLY|O_RDWR) > 0",
            "open.flags & O_CREAT > 0",
            "open.flags & O_TRUNC != 0",
            "open.flags & O_ACCMODE == O_RDONLY",
            "open.flags & (O_CREAT|O_EXCL) == O_CREAT|O_EXCL",
            "open.flags & O_APPEND > 0",
            "open.flags & O_DIRECTORY == 0",
        )
    )


def _asked(field: str) -> Term:
    """Return a mode that the call uses."""

    def term(rng: random.Random, kind: str) -> str:
        return f"{kind}.file.destination.{field} " + rng.choice(
            ("& S_ISUID > 0", "== 0644", "& S_IWOTH > 0", "!= 0755")
        )

    return term


def _before(rng: random.Random, kind: str) -> str:
    return f"{kind}.file." + rng.choice(
        ("uid == 0", "uid == 1000", "rights & S_IWOTH > 0", "rights == 0600", "gid != 0")
    )


def _second(rng: random.Random, kind: str) -> str:
    return f"{kind}.file.destination.name " + rng.choice(('== "n1"', '=~ "n*"', '!= "x"', '=~ "*a*"'))


_TERMS: Mapping[str, Sequence[Term]] = {
    "open": (_flags, _flags, _flags, _retval, _who, _asked("mode"), _before),
    "rename": (_second, _retval, _who),
    "link": (_second, _retval, _who),
    "mkdir": (_asked("mode"), _retval, _who),
    "mknod": (_asked("mode"), _retval, _who),
    "chmod": (_asked("mode"), _asked("rights"), _retval, _who, _before),
    "chown": (
        lambda rng, kind: f"{kind}.file.destination.uid {rng.choice(('== 0', '== 1000', '!= 1000'))}",
        _retval,
        _who,
        _before,
    ),
    "setxattr": (
        lambda rng, _: rng.choice(
            (
                'setxattr.file.destination.name == "user.law"',
                'setxattr.file.destination.name =~ "trusted.*"',
                'setxattr.file.destination.namespace == "user"',
            )
        ),
        _retval,
        _who,
    ),
    "symlink": (
        lambda rng, _: rng.choice(('symlink.target =~ "**/a"', 'symlink.target != "x"')),
        _retval,
        _who,
    ),
    "close": (_who, _before),
    "exec": (_retval, _who),
    "mount": (_retval, _who, lambda rng, _: f'mount.fs_type {rng.choice(("==", "!="))} "tmpfs"'),
    "umount": (_retval, _who, lambda rng, _: f"umount.flags & MNT_DETACH {rng.choice(('> 0', '== 0'))}"),
    WRITE: (_who,),
}
_ALONE: Mapping[str, Sequence[str]] = {
    "exec": (
        'exec.file.name =~ "memfd:*"',
        "exec.retval < 0",
        'exec.args =~ "exit*"',
        'exec.file.name == "tool"',
        "exec.retval == EACCES",
    ),
    "mount": (
        'mount.fs_type == "tmpfs"',
        'mount.source.path == "law"',
        "mount.retval < 0",
        "mount.flags & MS_BIND > 0",
    ),
    "umount": ("umount.retval == 0", "umount.flags & MNT_DETACH > 0"),
    "open": (
        "open.retval == EACCES",
        "open.flags & O_EXCL > 0 && open.retval < 0",
        "open.flags & O_TMPFILE == O_TMPFILE",
        "open.file.detached",
    ),
    "setxattr": ('setxattr.file.destination.name == "trusted.law"',),
    "rename": ("rename.retval < 0",),
}


def expression(rng: random.Random, scene: Scene, kind: str, names: bool) -> str:
    """Return a condition on one type of event."""
    if names and kind == "open" and rng.random() < 0.08:
        return rng.choice(_ALONE[kind])
    if (
        kind in _ALONE
        and kind != "open"
        and rng.random() < (0.5 if kind in ("exec", "mount", "umount") else 0.08)
    ):
        return rng.choice(_ALONE[kind])
    parts = [_path(rng, scene, kind, names)]
    if rng.random() < 0.12 and kind in ("rename", "link"):
        parts[0] = parts[0].replace(f"{kind}.file.", f"{kind}.file.destination.")
    if rng.random() < 0.15:
        parts[0] = f"({parts[0]} || {_path(rng, scene, kind, names)})"
    terms = _TERMS.get(kind, (_retval, _who))
    for term in rng.choices(terms, k=rng.choice((0, 0, 0, 1) if scene.heated else (0, 0, 0, 1, 1, 2))):
        condition = term(rng, kind)
        parts.append(f"!({condition})" if rng.random() < 0.1 else condition)
    rng.shuffle(parts)
    return " && ".join(parts)


def policy(rng: random.Random, scene: Scene) -> tuple[Rule, ...]:
    """Return active rules: mostly few, sometimes hundreds; mostly of few types, so that filters count."""
    count = rng.choice((1, 2, 3, 4, 6, 8, 12, 12, 20, 30)) if rng.random() < 0.93 else rng.randint(100, 300)
    # A rule on a name alone can match anywhere: then no directory is discarded.
    names = rng.random() < (0.1 if scene.heated else 0.5)
    types = list(_TYPES)
    weights = list(_TYPES.values())
    each: list[str] = []  # types that have a rule in any case
    if scene.heated or rng.random() < 0.7:
        chosen = set(rng.choices(types, weights, k=rng.randint(1, 3)))
        if scene.heated:
            count = rng.choice((1, 1, 2, 2, 3, 4, 6))
            often = rng.choice(("open", "open", "open", WRITE, *_OFTEN))
            # What is learned of one type of event must not hold for another.
            chosen = {often, *sorted(chosen)[: rng.choice((0, 1, 1))]}
            each = sorted(chosen)
        weights = [weight if kind in chosen else 0 for kind, weight in _TYPES.items()]
    return tuple(
        Rule(f"r{number}", kind, expression(rng, scene, kind, names))
        for number, kind in enumerate(each + rng.choices(types, weights, k=max(0, count - len(each))))
    )
