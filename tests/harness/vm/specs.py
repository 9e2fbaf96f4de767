"""Machine specifications for tests; their files do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.vm.domain import MachineSpec


def machine_spec(workdir: Path, **changes: Any) -> MachineSpec:
    """A spec whose files need not exist."""
    files = {"kernel": Path("/k/vmlinuz"), "initramfs": Path("/k/initramfs"), "root": Path("/k/root.erofs")}
    return MachineSpec(**{**files, "workdir": workdir, **changes})
