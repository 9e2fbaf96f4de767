"""Functions that damage a machine, its files, its guest or this host."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.plan.matrix import Cmdline
from harness.vm import ports, snapshot
from tests.campaigns.faults.scene import Scene, Strike

Change = Callable[[bytes], bytes]

MODULE = "/root/fault.ko"
INSERT = f"insmod {MODULE}"


def qemu(number: signal.Signals) -> Strike:
    """Send a signal to QEMU."""
    return lambda scene: os.kill(scene.qemu(), number)


def cmdline(words: str) -> Strike:
    """Append to the kernel's command line."""

    def strike(scene: Scene) -> None:
        changed = Cmdline(name="fault", args=words)
        before = scene.cell.machine
        scene.cell = scene.cell.model_copy(update={"cmdline": changed})
        files = {**scene.supplies.files, scene.cell.machine: scene.supplies.files[before]}
        scene.supplies = scene.supplies.model_copy(update={"files": files})

    return strike


def damaged(kind: str, change: Change) -> Strike:
    """Change one of the machine's files."""

    def strike(scene: Scene) -> None:
        original = Path(scene.supplies.files[scene.cell.machine][kind])
        copy = scene.folder / f"damaged-{kind}"
        copy.write_bytes(change(original.read_bytes()))
        scene.replace_file(kind, copy)

    return strike


def gone(kind: str) -> Strike:
    """Remove one of the machine's files."""
    return lambda scene: scene.replace_file(kind, scene.folder / "gone")


def lost_package(scene: Scene) -> None:
    """Raise the error of a package that the mirror no longer has."""
    why = {scene.cell.machine: "linux-image: 404 Not Found"}
    scene.supplies = scene.supplies.model_copy(update={"missing": why})


def half(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


def zeros(data: bytes) -> bytes:
    """Return as many zero bytes."""
    return bytes(len(data))


def scrambled(data: bytes) -> bytes:
    """Return the right beginning, then noise."""
    return data[:8192] + os.urandom(len(data) - 8192)


def full_disk(scene: Scene) -> None:
    """Put the machine's folder on a disk that is full before it starts."""
    filling_disk("64k")(scene)
    with contextlib.suppress(OSError), (scene.folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass


def filling_disk(size: str) -> Strike:
    """Put the machine's folder on a disk that fills while the console is written."""

    def strike(scene: Scene) -> None:
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(scene.folder)]
        subprocess.run(argv, check=True)
        scene.undo.append(lambda: subprocess.run(["umount", "-l", scene.folder], check=True))

    return strike


class _TakenPort(ports.Port):
    """A port on which another process listens."""

    times = 0

    def __init__(self) -> None:
        super().__init__()
        if _TakenPort.times > 0:
            _TakenPort.times -= 1
            self._thief = socket.socket()
            self._thief.bind((ports.ADDRESS, 0))
            self._thief.listen()
            self.number = self._thief.getsockname()[1]


def taken_port(times: int) -> Strike:
    """Let the first ports be in use."""

    def strike(scene: Scene) -> None:
        _TakenPort.times = times
        patch = mock.patch("harness.vm.machine.Port", _TakenPort)
        patch.start()
        scene.undo.append(patch.stop)

    return strike


def bad_snapshot(change: Change) -> Strike:
    """Make a snapshot that passes every check and cannot be restored."""

    def strike(scene: Scene) -> None:
        real = snapshot.Snapshots.find

        def find(self: snapshot.Snapshots, spec: object) -> snapshot.Snapshot | None:
            found = real(self, spec)  # type: ignore[arg-type]
            if found is None:
                return None
            copy = snapshot.Snapshot.within(scene.folder)
            copy.memory.write_bytes(change(found.memory.read_bytes()))
            return snapshot.Snapshot(copy.memory, found.console)

        patch = mock.patch.object(snapshot.Snapshots, "find", find)
        # Nor is the good one dropped for the bad one's sake.
        keep = mock.patch.object(snapshot.Snapshots, "drop", return_value=None)
        for one in (patch, keep):
            one.start()
            scene.undo.append(one.stop)

    return strike


def cut_ssh(scene: Scene) -> None:
    """Close the connection to the guest."""
    scene.vm.guest.close()


def frozen(scene: Scene) -> None:
    """Stop the guest's CPU; QEMU itself keeps running."""
    scene.vm.machine._domain._handle.suspend()  # type: ignore[union-attr]


def paused(seconds: float) -> Strike:
    """Stop the guest's CPU for some seconds."""

    def strike(scene: Scene) -> None:
        handle = scene.vm.machine._domain._handle  # type: ignore[union-attr]
        handle.suspend()
        time.sleep(seconds)
        handle.resume()

    return strike


def reset(scene: Scene) -> None:
    """Press the reset button."""
    scene.vm.machine._domain._handle.reset()  # type: ignore[union-attr]


def replaced_agent(program: str) -> Strike:
    """Replace the agent by another program."""

    def strike(scene: Scene) -> None:
        scene.vm.guest.put_bytes(program.encode(), "/opt/fim/agent/__main__.py")
        scene.vm.guest.run(["sh", "-c", "rm -f /opt/fim/agent/__pycache__/__main__*"])

    return strike


def module(code: bytes) -> Strike:
    """Puts a module of this kernel into the guest whose start is other code."""

    def strike(scene: Scene) -> None:
        folder = Path(scene.supplies.files[scene.cell.machine]["kernel"]).parent
        [original] = folder.glob("lib/modules/*/kernel/drivers/net/dummy.ko")
        # One with a wrong signature is refused, one with none is not.
        image = bytearray(original.read_bytes().removesuffix(b"~Module signature appended~\n"))
        start = _start_of(original)
        # The call by which functions are traced is filled in and taken out again by the kernel itself.
        start += 5 if image[start] == 0xE8 else 0
        image[start : start + len(code)] = code
        scene.vm.guest.put_bytes(bytes(image), MODULE)

    return strike


def inserted(code: bytes, command: str) -> Strike:
    """Copy such a module into the guest, and let a shell command there insert it."""

    def strike(scene: Scene) -> None:
        module(code)(scene)
        scene.in_background(command)

    return strike


def _start_of(path: Path) -> int:
    """Return where in a module's file its first function begins, behind its relocations."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        [symbol] = symbols.get_symbol_by_name("init_module") or []
        offset: int = elf.get_section(symbol["st_shndx"])["sh_offset"] + symbol["st_value"]
        return offset
