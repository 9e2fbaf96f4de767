"""Run by `backend` as a process of its own: compiles the programs of a folder into one object file.

    python -m agent.kernel.bcc.compile SOURCES OBJECT

Twice: first a small program that finds out where in memory the kernel keeps what its headers do not tell. The
compiler complains to stderr.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from agent.errors import KernelError
from agent.kernel.bcc import backend, object_file
from agent.kernel.bcc import layout as bcc_layout
from agent.kernel.bcc import source as bcc_source
from agent.kernel.bcc.source import Source

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

# Debian's kernels are built with the first from 7.x on: structures are embedded by their tag. The kernel's
# headers warn of much that is not ours to mend.
_FLAGS = ("-fms-extensions", "-w")


def main(sources: Path, target: Path) -> int:
    """Compile; the status is 0, or 1 with the reason as stderr's last line."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        try:
            layout = observed(sources, folder)
            flags = [f"-D{name}={value}" for name, value in defines(layout).items()]
            found = backend.symbols()
            made = _object(sources, bcc_source.ROOT, found, flags, folder)
        except KernelError as error:
            sys.stderr.write(f"{error.detail}\nerror: {error.message}\n")
            return 1
        (folder / "object").write_bytes(made)
        (folder / "object").replace(target)
    return 0


def defines(layout: bcc_layout.Layout) -> dict[str, int]:
    """A layout as the macros of bpf/bcc.h."""
    return {
        "FIM_MOUNT_ID": layout.mount_id,
        "FIM_MOUNT_NS": layout.mount_ns,
        "FIM_NAMESPACE_INUM": layout.namespace_inum,
    }


def observed(sources: Path, folder: Path) -> bcc_layout.Layout:
    """Compiles the small program in `folder`, and looks. Raises KernelError."""
    path = folder / "peek.o"
    program = {bcc_layout.PROGRAM: f"on_{bcc_layout.PROGRAM}"}
    path.write_bytes(_object(sources, bcc_layout.ROOT, program, (), folder))
    return bcc_layout.observe(path)


def _object(sources: Path, root: str, programs: dict[str, str], flags: Iterable[str], folder: Path) -> bytes:
    source = bcc_source.read(sources, tuple(programs.values()), root)
    (folder / bcc_source.BODY).write_text(source.body, "ascii")
    code = _compiled(source, [*_FLAGS, f"-I{folder}", *flags])
    return object_file.build(source, code, programs)


def _compiled(source: Source, flags: list[str]) -> dict[str, bytes]:
    """The instructions of each function, by symbol."""
    bcc = importlib.import_module("bcc")
    try:
        module = bcc.BPF(text=source.main, cflags=flags)
        return {name: module.dump_func(name) for name in source.kept}
    except Exception as error:  # bcc raises nothing narrower
        raise KernelError(str(error)) from error


def _end_with_parent() -> None:
    """Nobody waits for what is compiled for an agent that has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    os.umask(0o077)
    _end_with_parent()
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
