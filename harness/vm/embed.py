"""Prepares the root folder of an embedded libvirt, and keeps QEMU's capabilities from run to run."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# libvirt runs without daemons: no log daemon, no other user for QEMU, no labels, no cgroups, no private /dev.
_QEMU_CONF = """\
stdio_handler = "file"
user = "{user}"
group = "{group}"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
security_driver = "none"
"""


@dataclass(frozen=True)
class EmbedRoot:
    """`path` is the root of one process, `capabilities` a directory that all processes share."""

    path: Path
    capabilities: Path

    @property
    def uri(self) -> str:
        """The URI of libvirt's QEMU driver inside this process, with all its state below `path`."""
        return f"qemu:///embed?root={quote(str(self.path))}"

    def prepare(self) -> None:
        """Create the root, with the capabilities that earlier runs kept: probing them takes 2 to 4 s."""
        (self.path / "etc").mkdir(parents=True, exist_ok=True)
        configuration = _QEMU_CONF.format(user=f"+{os.getuid()}", group=f"+{os.getgid()}")
        (self.path / "etc" / "qemu.conf").write_text(configuration)
        _copy_new(self.capabilities, self._own_capabilities)

    def keep_capabilities(self) -> None:
        """Keep the capabilities that libvirt probed for later runs; libvirt checks them again itself."""
        _copy_new(self._own_capabilities, self.capabilities)

    def pid_of(self, name: str) -> int:
        """Return the process id of a domain's QEMU. Raises OSError, ValueError if it has none."""
        return int((self.path / "run" / "qemu" / f"{name}.pid").read_text())

    def probed_pids(self) -> Iterator[int]:
        """Yield the process ids of the QEMUs that libvirt is probing now."""
        for path in self.path.glob("lib/qemu/qmp-*/qmp.pid"):
            # libvirt removes the file when it is done, and QEMU writes it while we read.
            with contextlib.suppress(OSError, ValueError):
                yield int(path.read_text())

    @property
    def _own_capabilities(self) -> Path:
        return self.path / "cache" / "qemu" / "capabilities"


def _copy_new(source: Path, target: Path) -> None:
    """Copy by rename: libvirt writes these files in place, so two processes must not share them."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.glob("*.xml"):
        data, place = entry.read_bytes(), target / entry.name
        if not place.exists() or place.read_bytes() != data:
            temporary = target / f".{entry.name}.{secrets.token_hex(4)}"
            temporary.write_bytes(data)
            temporary.replace(place)
