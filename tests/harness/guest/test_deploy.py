"""The bundle: reproducible, complete, and unpacked or reported as not unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.errors import ConfigError, InfrastructureError
from harness.guest.base import Completed
from harness.guest.deploy import CASTS, OBJECT, BundleSources, Compiled, build, deploy, for_guest, with_types
from tests.harness.guest.fake import FakeGuest


@pytest.fixture
def sources(tmp_path: Path) -> BundleSources:
    """Make a small agent."""
    agent = tmp_path / "agent"
    (agent / "rules").mkdir(parents=True)
    (agent / "__init__.py").write_text("")
    (agent / "rules" / "grammar.lark").write_text("start:")
    (agent / "rules" / "parser.py").write_text("x = 1\n")
    (agent / "rules" / "notes.txt").write_text("not code")
    compiled = {}
    for arch in ("amd64", "arm64"):
        (tmp_path / arch).mkdir()
        names = ("fim.bpf.o", "fim-casts.bpf.o", "fim-gen")
        compiled[arch] = Compiled(*(tmp_path / arch / name for name in names))
        compiled[arch].casts.write_bytes(b"\x7fELF casts of " + arch.encode())
        compiled[arch].bpf_object.write_bytes(b"\x7fELF object of " + arch.encode())
        compiled[arch].generator.write_bytes(b"\x7fELF generator of " + arch.encode())
    (tmp_path / "tables.py").write_text("tables = 1\n")
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "event.h").write_text("/* the wire format */\n")
    return BundleSources(agent, tmp_path / "bpf", compiled, tmp_path / "tables.py")


def test_contents(sources: BundleSources) -> None:
    """It has code, data, bytecode, the object, the executable generator, and a kernel's types if given."""
    bundle = with_types(for_guest(build(sources), "amd64"), {"6.1.0": b"\x9f\xeb"})
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        modes = {member.name: member.mode for member in tar}
    names = {name for name in modes if "__pycache__" not in name}
    assert names == {
        "agent/__init__.py",
        "agent/rules/_tables.py",
        "agent/rules/grammar.lark",
        "agent/rules/parser.py",
        "agent/bpf/event.h",
        "agent/bpf/fim.bpf.o",
        "agent/bpf/fim-casts.bpf.o",
        "agent/btf/6.1.0.btf",
        "agent/bin/fim-gen",
    }
    assert sum("__pycache__" in name for name in modes) == 3
    assert modes["agent/bin/fim-gen"] == 0o755


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_a_guest_gets_the_files_of_its_architecture(sources: BundleSources, arch: str) -> None:
    """At the places where the agent looks for them; the rest is the same for all."""
    whole = build(sources)
    with tarfile.open(fileobj=io.BytesIO(for_guest(whole, arch))) as tar:
        names = tar.getnames()
        for name, data in ((OBJECT, "object"), (CASTS, "casts"), ("agent/bin/fim-gen", "generator")):
            file = tar.extractfile(name)
            assert file
            assert file.read() == f"\x7fELF {data} of {arch}".encode()
    assert all(name.startswith("agent/") for name in names)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert len(tar.getnames()) == len(names) + 3


def test_reproducible(sources: BundleSources) -> None:
    """The same files give the same bytes, whatever their times."""
    first = build(sources)
    os.utime(sources.agent / "rules" / "parser.py", (1, 1))
    assert build(sources) == first


def test_missing_part(sources: BundleSources) -> None:
    """The error names the missing file and the command that makes it."""
    sources.compiled["arm64"].generator.unlink()
    with pytest.raises(ConfigError, match="fim-gen is missing") as raised:
        build(sources)
    assert "make build" in raised.value.hint


def test_a_deploy_failure_has_tars_message() -> None:
    """The error of a full disk has the message of tar."""
    guest = FakeGuest(lambda _argv: Completed(2, b"", b"tar: No space left on device\n"))
    with pytest.raises(InfrastructureError, match="No space left"):
        deploy(guest, b"bundle")
