"""What an event says is what the kernel did: to which file, by whom, and with what result."""

from __future__ import annotations

import errno

from agent.events import EventType
from agent.selftest.bench import Bench, Round
from agent.selftest.scenarios import proves

NOBODY = 65534


def _as_nobody(line: str) -> str:
    """The line in a child that is not root."""
    return f"fork -> $1\ncomm truth-nobody\nsetuid {NOBODY}\n{line}\nend\nwait $1\n"


def _done_by(played: Round, call: str) -> dict[str, object]:
    """Who made the one call of that name, and what came of it: success is 0, also of an open."""
    (report,) = played.outcome.of(call)
    identity = {name: getattr(report, name) for name in ("pid", "tid", "ppid", "uid", "gid")}
    return identity | {"retval": min(report.ret, 0)}


def _paths(**paths: str) -> dict[str, object]:
    """The paths that an event must tell, by the name of its file."""
    return {f"{name}.path": path.encode() for name, path in paths.items()}


@proves("truth.open")
def truth_open(bench: Bench) -> None:
    """Create a file, then be refused it as another user."""
    path = bench.path("watched")
    bench.rules(watched=f'open.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.OPEN}

    created = bench.play(f"comm truth-open\nopen {path} O_RDWR|O_CREAT 0600 -> $0\nclose $0\n")
    bench.arrives_once(
        created, "watched", known | _done_by(created, "open") | {"comm": b"truth-open", "mode": 0o600}
    )
    refused = bench.play(_as_nobody(f"open {path} O_RDONLY"), refused={f"open:4 errno {errno.EACCES}": 1})
    bench.arrives_once(refused, "watched", known | _done_by(refused, "open") | {"comm": b"truth-nobody"})


@proves("truth.unlink")
def truth_unlink(bench: Bench) -> None:
    """Be refused as another user, then remove the file."""
    path = bench.file("watched")
    bench.rules(watched=f'unlink.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.UNLINK}

    refused = bench.play(_as_nobody(f"unlink {path}"), refused={f"unlink:4 errno {errno.EACCES}": 1})
    bench.arrives_once(refused, "watched", known | _done_by(refused, "unlink") | {"comm": b"truth-nobody"})
    removed = bench.play(f"comm truth-unlink\nunlink {path}\n")
    bench.arrives_once(removed, "watched", known | _done_by(removed, "unlink") | {"comm": b"truth-unlink"})


@proves("truth.rename")
def truth_rename(bench: Bench) -> None:
    """Move a file away from the name that a rule has, and to the name that another has."""
    old, middle, new = bench.file("old"), bench.path("middle"), bench.path("new")
    bench.rules(
        leaves=f'rename.file.path == "{old}"',
        arrives=f'rename.file.destination.path == "{new}"',
        returns=f'rename.file.path == "{new}"',
    )
    known = {"type": EventType.RENAME, "comm": b"truth-rename"}

    away = bench.play(f"comm truth-rename\nrename {old} {middle}\n")
    bench.arrives_once(away, "leaves", known | _paths(file=old, file2=middle) | _done_by(away, "rename"))
    back = bench.play(f"rename {middle} {new}\n")
    bench.arrives_once(back, "arrives", known | _paths(file=middle, file2=new) | _done_by(back, "rename"))
    refused = bench.play(_as_nobody(f"rename {new} {old}"), refused={f"rename:4 errno {errno.EACCES}": 1})
    told = known | _paths(file=new, file2=old) | _done_by(refused, "rename") | {"comm": b"truth-nobody"}
    bench.arrives_once(refused, "returns", told)
