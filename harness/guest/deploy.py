"""Builds the agent's bundle, copies the part for a guest's architecture into it and unpacks that to /opt/fim.

    agent/...                  the Python package, with its bytecode beside it
    agent/bpf/fim.bpf.o        the CO-RE object for the guest's architecture
    agent/bpf/fim-casts.bpf.o  the same for kernels under lockdown
    agent/bpf/*.[ch]           its source, for bcc, which compiles in the guest
    agent/btf/RELEASE.btf      reduced type information of a kernel, for cells that do not use its own
    agent/bin/fim-gen          the static generator of known events
    agent/rules/_tables.py     the tables of the rule parser, made in advance

A bundle has the compiled files (`*.bpf.o`, `fim-gen`) of each architecture below ARCH/, such as
arm64/agent/bpf/fim.bpf.o; a guest gets those of its own.

The bundle depends on its files alone: no times, no owners, sorted names. It contains bytecode because
compiling sixty modules takes seconds in an emulated guest; a guest with another Python ignores the bytecode.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import py_compile
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, InfrastructureError
from harness.guest.base import Guest
from harness.host import deadlines

TARGET = "/opt/fim"
OBJECT = "agent/bpf/fim.bpf.o"
CASTS = "agent/bpf/fim-casts.bpf.o"
_GENERATOR = "agent/bin/fim-gen"
_REMOTE = "/tmp/fim-bundle.tar"  # noqa: S108 - a path in the guest
_SUFFIXES = {".py", ".lark", ".yaml", ".json", ".service"}


@dataclass(frozen=True)
class Compiled:
    """The files that are compiled for one architecture."""

    bpf_object: Path
    casts: Path
    generator: Path


@dataclass(frozen=True)
class BundleSources:
    """The sources of a bundle.

    `agent` is the package's directory, `programs` that of the BPF programs; `make build` makes the others.
    `compiled` is by architecture.
    """

    agent: Path
    programs: Path
    compiled: Mapping[str, Compiled]
    tables: Path


def build(sources: BundleSources) -> bytes:
    """Return a tar archive, uncompressed: the guest has no gzip. Raises ConfigError if a part is missing."""
    compiled = sorted(sources.compiled.items())
    parts = [path for _, one in compiled for path in (one.bpf_object, one.casts, one.generator)]
    for part in (*parts, sources.tables):
        if not part.is_file():
            raise ConfigError(f"{part} is missing", hint="run `make build`")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in _package(sources):
            _add(tar, name, data, 0o644)
        for path in sorted(sources.programs.glob("*.[ch]")):
            _add(tar, f"agent/bpf/{path.name}", path.read_bytes(), 0o644)
        for arch, one in compiled:
            _add(tar, f"{arch}/{OBJECT}", one.bpf_object.read_bytes(), 0o644)
            _add(tar, f"{arch}/{CASTS}", one.casts.read_bytes(), 0o644)
            _add(tar, f"{arch}/{_GENERATOR}", one.generator.read_bytes(), 0o755)
    return archive.getvalue()


def for_guest(bundle: bytes, arch: str) -> bytes:
    """Return the files of `bundle` for guests of one architecture, at their places in the guest."""
    archive = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(bundle)) as whole,
        tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in whole:
            folder, _, name = member.name.partition("/")
            if folder in ("agent", arch) and (file := whole.extractfile(member)):
                _add(tar, member.name if folder == "agent" else name, file.read(), member.mode)
    return archive.getvalue()


def with_types(bundle: bytes, types: Mapping[str, bytes]) -> bytes:
    """Return `bundle` with type information of kernels, by release."""
    archive = io.BytesIO(bundle)
    with tarfile.open(fileobj=archive, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for release, data in sorted(types.items()):
            _add(tar, f"agent/btf/{release}.btf", data, 0o644)
    return archive.getvalue()


def deploy(guest: Guest, bundle: bytes) -> None:
    """Copy a bundle into the guest and unpack it. Raises InfrastructureError with tar's error."""
    guest.put_bytes(bundle, _REMOTE)
    unpack = f"mkdir -p {TARGET} && tar -C {TARGET} --no-same-owner -xf {_REMOTE} && rm {_REMOTE}"
    completed = guest.run(["sh", "-c", unpack], deadlines.DEPLOY_S)
    if completed.status != 0:
        reason = completed.stderr.decode("utf-8", "backslashreplace").strip()
        raise InfrastructureError(f"cannot unpack the agent in the guest: {reason}")


def _package(sources: BundleSources) -> Iterator[tuple[str, bytes]]:
    root = sources.agent
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.suffix in _SUFFIXES}
    files["rules/_tables.py"] = sources.tables
    for relative, path in sorted(files.items()):
        name = f"agent/{relative}"
        yield name, path.read_bytes()
        if path.suffix == ".py":
            cached = Path(importlib.util.cache_from_source(name)).as_posix()
            yield cached, _bytecode(path.read_bytes(), f"{TARGET}/{name}")


@functools.cache
def _bytecode(source: bytes, shown: str) -> bytes:
    """Compile once per process: it is slow, and two compilations of one source may differ in bytes."""
    with tempfile.NamedTemporaryFile(suffix=".py") as plain, tempfile.NamedTemporaryFile() as compiled:
        plain.write(source)
        plain.flush()
        # The bytecode names its source by a hash that Python never checks: so the bundle needs no times, and
        # the guest does not read the sources.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(plain.name, compiled.name, dfile=shown, doraise=True, invalidation_mode=mode)
        return Path(compiled.name).read_bytes()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))
