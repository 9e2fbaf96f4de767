"""Compiles the programs of a folder into one object file; `backend` runs this module as a process of its own.

    python -m agent.kernel.bcc.compile SOURCES OBJECT

bcc compiles twice: first a small program that finds the layout of structures that are in no kernel header,
then the agent's programs. The compiler's messages go to stderr.
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
from agent.kernel.bcc import backend, kheaders, object_file
from agent.kernel.bcc import layout as bcc_layout
from agent.kernel.bcc import source as bcc_source
from agent.kernel.bcc.source import Source

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

# Debian's kernels from 7.x on are built with -fms-extensions, because they embed structures by their tag. The
# kernel's own headers cause many warnings.
_FLAGS = ("-fms-extensions", "-w")


def main(sources: Path, target: Path) -> int:
    """Compile; return 0, or 1 after printing the reason as the last line on stderr."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        try:
            if not kheaders.installed() and kheaders.held():
                kheaders.unpack(folder / "headers")
                os.environ[kheaders.VARIABLE] = str(folder / "headers")
            layout = observed(sources, folder)
            flags = [f"-D{name}={value}" for name, value in defines(layout).items()]
            compiled = _object(sources, bcc_source.ROOT, backend.symbols(), flags, folder)
        except KernelError as error:
            sys.stderr.write(f"{error.detail}\nerror: {error.message}\n")
            return 1
        (folder / "object").write_bytes(compiled)
        (folder / "object").replace(target)
    return 0


def defines(layout: bcc_layout.Layout) -> dict[str, int]:
    """Return a layout as the macros of bpf/bcc.h."""
    return {
        "FIM_MOUNT_ID": layout.mount_id,
        "FIM_MOUNT_NS": layout.mount_ns,
        "FIM_NAMESPACE_INUM": layout.namespace_inum,
    }


def observed(sources: Path, folder: Path) -> bcc_layout.Layout:
    """Compile the program that reads memory in `folder`, and find the layout with it. Raises KernelError."""
    path = folder / "memory.o"
    program = {bcc_layout.PROGRAM: f"on_{bcc_layout.PROGRAM}"}
    path.write_bytes(_object(sources, bcc_layout.ROOT, program, (), folder))
    return bcc_layout.observe(path)


def _object(sources: Path, root: str, programs: dict[str, str], flags: Iterable[str], folder: Path) -> bytes:
    source = bcc_source.read(sources, tuple(programs.values()), root)
    (folder / bcc_source.BODY).write_text(source.body, "ascii")
    code = _compiled(source, [*_FLAGS, f"-I{folder}", *flags])
    return object_file.build(source, code, programs)


def _compiled(source: Source, flags: list[str]) -> dict[str, bytes]:
    """Return the instructions of each function, by symbol."""
    bcc = importlib.import_module("bcc")
    try:
        module = bcc.BPF(text=source.main, cflags=flags)
        return {name: module.dump_func(name) for name in source.kept}
    except Exception as error:  # bcc raises nothing narrower
        raise KernelError(str(error)) from error


def _end_with_parent() -> None:
    """Kill this process when the agent ends: no process would use the result."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    os.umask(0o077)
    _end_with_parent()
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
