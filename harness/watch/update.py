"""Updates the agent in a guest by sending only the files that changed."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InfrastructureError
from harness.guest.base import Guest
from harness.guest.deploy import TARGET
from harness.host import deadlines

_REMOTE = "/tmp/fim-update.tar"  # noqa: S108 - a path in the guest
_READ_BY_LOADS = ("agent/bpf/", "agent/bin/")
_BODIES = "agent/selftest/scenarios/"


@dataclass(frozen=True)
class Member:
    """A file of a bundle."""

    data: bytes
    mode: int


@dataclass(frozen=True)
class Update:
    """The files to send, and the names of those to remove."""

    changed: Mapping[str, Member]
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)

    def outdates(self, *, tested: bool) -> bool:
        """Return whether a running server has code that is outdated.

        A server that has run no test yet (`tested` is false) has not read the scenarios.
        """
        code = (name for name in (*self.changed, *self.removed) if not name.startswith(_READ_BY_LOADS))
        return any(tested or not _is_body(name) for name in code)

    @property
    def size(self) -> int:
        """The number of bytes to send."""
        return sum(len(member.data) for member in self.changed.values())


def members(bundle: bytes) -> dict[str, Member]:
    """Return the files of a bundle of `deploy.build`, by name."""
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        return {member.name: Member(file.read(), member.mode) for member, file in files if file}


def between(old: Mapping[str, Member], new: Mapping[str, Member]) -> Update:
    """Return the update from the old files to the new ones."""
    changed = {name: member for name, member in new.items() if old.get(name) != member}
    return Update(changed, tuple(sorted(set(old) - set(new))))


def send(guest: Guest, update: Update) -> None:
    """Update the guest, in one round trip for the files and one for the rest.

    Raises InfrastructureError with tar's error.
    """
    guest.put_bytes(_archive(update.changed), _REMOTE)
    remove = f"; rm -f {' '.join(map(shlex.quote, update.removed))}" if update.removed else ""
    unpack = f"cd {TARGET} && tar --no-same-owner -xf {_REMOTE}{remove}"
    completed = guest.run(["sh", "-c", unpack], deadlines.UPDATE_S)
    if completed.status != 0:
        reason = completed.stderr.decode("utf-8", "backslashreplace").strip()
        raise InfrastructureError(f"cannot update the agent in the guest: {reason}")


def _is_body(name: str) -> bool:
    return name.startswith(_BODIES) and "__init__" not in name


def _archive(files: Mapping[str, Member]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, member in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(member.data), member.mode
            tar.addfile(entry, io.BytesIO(member.data))
    return archive.getvalue()
