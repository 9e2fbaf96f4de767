"""A kernel's type information cut down to what the agent's programs ask of it, for kernels that carry none.

Made from the kernel's own image, so that it is known to fit; the agent finds it by the kernel's release.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.host import cache
from harness.host import programs as external
from harness.host.cache import Cache
from harness.kernels import payload


def types(image: Path, release: str, programs: bytes, store: Cache) -> Path:
    """Return a cached file RELEASE.btf with what the object `programs` needs of the types of `image`.

    Raises InfrastructureError.
    """

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            whole, asking = Path(scratch, "whole.btf"), Path(scratch, "programs.o")
            whole.write_bytes(payload.type_information(image))
            asking.write_bytes(programs)
            files = (whole, folder / f"{release}.btf", asking)
            external.run(["bpftool", "gen", "min_core_btf", *files], package="bpftool")

    key = cache.digest(release, cache.file_digest(image), programs)
    return store.get("types", key, build) / f"{release}.btf"
