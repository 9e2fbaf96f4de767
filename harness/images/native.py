"""Compiles the guest's static C programs on the host, for the guest's architecture."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.host.programs import run
from harness.kernels.catalogue import Architecture

_FLAGS = ("-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def compile_static(source: Path, arch: Architecture) -> bytes:
    """The bytes of the program that is compiled from `source`. Raises InfrastructureError."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, source.stem)
        run([arch.compiler, *_FLAGS, "-o", program, source], package=arch.compiler_package)
        return program.read_bytes()
