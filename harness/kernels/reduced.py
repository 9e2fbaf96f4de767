"""Makes a small BTF file with the types that the agent's programs use, for guests that hide the kernel's BTF.

It is made from the kernel's own image, so it fits that kernel; the agent finds it by the kernel's release.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.host import cache
from harness.host import programs as external
from harness.host.cache import Cache
from harness.kernels import payload


def types(image: Path, release: str, programs: bytes, store: Cache) -> Path:
    """The cached file RELEASE.btf with those types of `image` that the BPF object `programs` needs.

    Raises InfrastructureError.
    """

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            whole, bpf_object = Path(scratch, "whole.btf"), Path(scratch, "programs.o")
            whole.write_bytes(payload.type_information(image))
            bpf_object.write_bytes(programs)
            files = (whole, folder / f"{release}.btf", bpf_object)
            external.run(["bpftool", "gen", "min_core_btf", *files], package="bpftool")

    key = cache.digest(release, cache.file_digest(image), programs)
    return store.get("types", key, build) / f"{release}.btf"
