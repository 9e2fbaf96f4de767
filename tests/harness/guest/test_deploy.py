"""The bundle: reproducible, complete, and unpacked or reported as not unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.errors import ConfigError, InfrastructureError
from harness.guest.base import Completed
from harness.guest.deploy import BundleSources, build, deploy, with_types
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
    for name in ("fim.bpf.o", "fim-gen"):
        (tmp_path / name).write_bytes(b"\x7fELF")
    (tmp_path / "tables.py").write_text("tables = 1\n")
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "event.h").write_text("/* the wire format */\n")
    built = (tmp_path / name for name in ("fim.bpf.o", "fim-gen", "tables.py"))
    return BundleSources(agent, tmp_path / "bpf", *built)


def test_contents(sources: BundleSources) -> None:
    """It has code, data, bytecode, the object, the executable generator, and a kernel's types if given."""
    with tarfile.open(fileobj=io.BytesIO(with_types(build(sources), {"6.1.0": b"\x9f\xeb"}))) as tar:
        modes = {member.name: member.mode for member in tar}
    names = {name for name in modes if "__pycache__" not in name}
    assert names == {
        "agent/__init__.py",
        "agent/rules/_tables.py",
        "agent/rules/grammar.lark",
        "agent/rules/parser.py",
        "agent/bpf/event.h",
        "agent/bpf/fim.bpf.o",
        "agent/btf/6.1.0.btf",
        "agent/bin/fim-gen",
    }
    assert sum("__pycache__" in name for name in modes) == 3
    assert modes["agent/bin/fim-gen"] == 0o755


def test_reproducible(sources: BundleSources) -> None:
    """The same files give the same bytes, whatever their times."""
    first = build(sources)
    os.utime(sources.agent / "rules" / "parser.py", (1, 1))
    assert build(sources) == first


def test_missing_part(sources: BundleSources) -> None:
    """The error names the missing file and the command that makes it."""
    sources.generator.unlink()
    with pytest.raises(ConfigError, match="fim-gen is missing") as raised:
        build(sources)
    assert "make build" in raised.value.hint


def test_a_deploy_failure_has_tars_message() -> None:
    """The error of a full disk has the message of tar."""
    guest = FakeGuest(lambda _argv: Completed(2, b"", b"tar: No space left on device\n"))
    with pytest.raises(InfrastructureError, match="No space left"):
        deploy(guest, b"bundle")
