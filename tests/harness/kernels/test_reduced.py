"""Reduced BTF, with a fake bpftool."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.host import programs
from harness.host.cache import Cache
from harness.kernels import reduced
from tests.harness.kernels.test_inspect import made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"code" + made({"f": ("a",)}))
    return path


def test_reduced_btf_is_stored_by_release(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of bpftool are the image's BTF and the object; no other file is left in the folder."""

    def run(argv: list[str | Path], *, package: str) -> str:
        words = [str(word) for word in argv]
        assert words[:3] == ["bpftool", "gen", "min_core_btf"]
        assert Path(words[3]).read_bytes() == made({"f": ("a",)})
        assert (Path(words[5]).read_bytes(), package) == (b"object", "bpftool")
        Path(words[4]).write_bytes(b"reduced")
        return ""

    monkeypatch.setattr(programs, "run", run)
    place = reduced.types(image, "6.1.0", b"object", Cache(tmp_path / "cache"))
    assert (place.name, place.read_bytes()) == ("6.1.0.btf", b"reduced")
    assert [path.name for path in place.parent.iterdir()] == ["6.1.0.btf"]


def test_without_bpftool_no_btf_is_made(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of an earlier run is not used."""

    def run(_argv: object, *, package: str) -> str:
        raise InfrastructureError(f"{package} is not installed")

    monkeypatch.setattr(programs, "run", run)
    with pytest.raises(InfrastructureError, match="bpftool is not installed"):
        reduced.types(image, "6.1.0", b"object", Cache(tmp_path / "cache"))
    assert not list(tmp_path.glob("cache/types/*/content"))
