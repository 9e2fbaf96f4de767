"""A kernel under a debugger: QEMU's stub on a port of this host, and the package of the symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernels import symbols
from harness.vm import domain
from tests.harness.kernels.conftest import FakeApt, fake_apt
from tests.harness.vm.specs import machine_spec

__all__ = ["fake_apt"]


def _xml(tmp_path: Path, gdb_port: int) -> str:
    spec = machine_spec(tmp_path, gdb_port=gdb_port)
    return domain.render(spec, name="fim-1", port=1, run_disk=tmp_path / "run.tar")


def test_the_stub_listens_on_this_host_only(tmp_path: Path) -> None:
    xml = _xml(tmp_path, 1234)
    assert 'value="-gdb"/>' in xml
    assert 'value="tcp:127.0.0.1:1234"/>' in xml
    assert "nokaslr" in xml


def test_without_the_option_there_is_no_stub(tmp_path: Path) -> None:
    xml = _xml(tmp_path, 0)
    assert "-gdb" not in xml
    assert "nokaslr" not in xml


def test_the_package_with_the_symbols_is_named(fake_apt: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    index = [{"version": "6.1.174-1", "size": "943718400"}]
    monkeypatch.setattr("harness.kernels.apt.Apt.show", lambda _apt, _names: index)
    line = symbols.advice("6.1", "6.1.0-1-cloud-amd64", "amd64", repositories=fake_apt.repositories())
    assert line == (
        "symbols: package linux-image-6.1.0-1-cloud-amd64-dbg 6.1.174-1 in bookworm-security (900 MiB): "
        "/usr/lib/debug/boot/vmlinux-6.1.0-1-cloud-amd64"
    )


def test_a_lack_of_symbols_is_reported(fake_apt: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.kernels.apt.Apt.show", lambda _apt, _names: [])
    line = symbols.advice("6.1", "6.1.0-1-cloud-amd64", "amd64", repositories=fake_apt.repositories())
    assert line.startswith("symbols: no repository has linux-image-6.1.0-1-cloud-amd64-dbg")
