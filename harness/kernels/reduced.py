"""A kernel's type information cut down to what the agent's programs ask of it, for kernels that carry none.

Made from the kernel's own image, so that it is known to fit; the agent finds it by the kernel's release.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.host import programs as external
from harness.kernels import payload


def store(image: Path, release: str, programs: Path, folder: Path) -> Path:
    """Write `folder`/RELEASE.btf for the object `programs`; raises InfrastructureError, or OSError.

    It is written aside and renamed: runs beside this one may make the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{release}.btf"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole, aside = Path(scratch, "whole.btf"), Path(scratch, "reduced.btf")
        whole.write_bytes(payload.type_information(image))
        external.run(["bpftool", "gen", "min_core_btf", whole, aside, programs], package="bpftool")
        aside.replace(place)
    return place
