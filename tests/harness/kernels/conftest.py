"""A fake apt, programs on PATH that answer from files, and what tests of signed archives share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernels import Repositories
from harness.kernels.apt import transport_settings
from harness.kernels.mirrors import Mirrors
from tests.harness.kernels import signed
from tests.harness.kernels.signed import Keys

DATA = Path(__file__).parent / "data"

APT_GET = """#!/bin/sh
echo "$APT_CONFIG $*" >>"{root}/calls"
[ -e "{root}/stderr" ] || exit 0
cat "{root}/stderr" >&2
exit 100
"""

APT_CACHE = """#!/bin/sh
index="{data}/$(basename "$(dirname "$APT_CONFIG")").txt"
[ -e "$index" ] || exit 0
case $1 in
pkgnames) sed -n 's/^Package: //p' "$index" ;;
show) cat "$index" ;;
esac
"""

APT_CONFIG = """#!/bin/sh
cat <<END
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Retries "3";
APT::Update::Post-Invoke:: "rm -rf /";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
END
"""


@dataclass(frozen=True)
class FakeApt:
    """A fake apt-get; `calls` has its command lines, `stderr` its output if it must fail."""

    root: Path

    @property
    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def fail(self, stderr: str) -> None:
        (self.root / "stderr").write_text(stderr)

    def repositories(self, **options: float) -> Repositories:
        mirrors = Mirrors("http://main.example", "http://security.example", Path("/keyring.gpg"))
        return Repositories(self.root / "apt", mirrors, **options)


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE), ("apt-config", APT_CONFIG)):
        program = programs / name
        program.write_text(text.replace("{root}", str(tmp_path)).replace("{data}", str(DATA)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    transport_settings.cache_clear()
    return FakeApt(tmp_path)


@pytest.fixture(scope="session")
def keys() -> Iterator[Keys]:
    with signed.keys() as made:
        yield made


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty cache, and reach the loopback device without a proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
