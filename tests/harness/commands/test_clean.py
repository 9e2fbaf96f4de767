"""`harness clean` leaves nothing that no process uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import cli
from harness.commands import clean
from harness.host import locks
from harness.host.cache import Cache
from harness.vm import ownership
from harness.vm.ownership import RunDirectory


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cache with an entry, indexes and the stored capabilities of the host; no run is dead."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("harness.lab.lab.VmBench.reap", lambda _self, also_kept: [])
    monkeypatch.setattr(ownership, "runtime_roots", lambda: [tmp_path / "fim-harness/run"])
    store = Cache()
    store.get("kernels", "k", make)
    os.close(store._in_use.popitem()[1])  # as the end of its process would
    for name in ("apt/amd64/sid/lists/index", "apt/amd64/sid.lock", "acceleration/a.json", "libvirt/c/x"):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_bytes(bytes(1 << 20))
    return store.root


def make(folder: Path) -> None:
    (folder / "vmlinuz").write_bytes(bytes(1 << 20))


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_nothing_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No entry, index, lock or empty folder is left, and the freed bytes are counted."""
    store = Cache(root)
    assert store.size() == 1 << 20
    assert cli.main(["clean"]) == 0
    assert left(root) == []
    assert "freed 4 MiB" in capsys.readouterr().err


def test_an_index_in_use_stays(root: Path) -> None:
    """A process that queries an index holds its lock."""
    with locks.locked(root / "apt/amd64/sid.lock"):
        clean.forget(root)
    assert "apt/amd64/sid/lists/index" in left(root)


@pytest.mark.parametrize("words", [("--keep", "100"), ("--older-than", "1"), ("--machines",)])
def test_a_partial_clean_keeps_indexes(root: Path, words: tuple[str, ...]) -> None:
    """Downloading them again takes longer than the space is worth."""
    before = left(root)
    assert cli.main(["clean", *words]) == 0
    assert left(root) == before


def test_a_live_run_keeps_its_folders(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A live run keeps the run directories and the entries of the cache that it uses."""
    with RunDirectory.claim(root / "run") as directory:
        (directory.path / "1").mkdir()
        assert cli.main(["clean"]) == 0
        assert {"acceleration/a.json", "libvirt/c/x"} <= {*left(root)}
        assert (directory.path / "1").is_dir()
        clean.forget(root)
        assert (directory.path / "1").is_dir()
    assert f"a run is active ({directory.token})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "kept"), [(("--keep", "0"), False), (("--older-than", "0.5"), True), (("--keep", "1G"), True)]
)
def test_only_a_limit_of_zero_keeps_nothing(root: Path, words: tuple[str, ...], *, kept: bool) -> None:
    assert cli.main(["clean", *words]) == 0
    assert bool(left(root)) == kept


@pytest.mark.parametrize("words", [("--keep", "5"), ("--keep", "0"), ("--older-than", "1")])
def test_machines_with_a_limit_of_the_cache_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """The limit would be ignored; no machine is ended either."""
    monkeypatch.setattr("harness.lab.lab.VmBench.reap", lambda _self, also_kept: pytest.fail("reaped"))
    before = left(root)
    assert cli.main(["clean", "--machines", *words]) == 2
    assert "--machines leaves the whole cache" in capsys.readouterr().err
    assert left(root) == before


@pytest.mark.parametrize("words", [["clean"], ["clean", "--keep", "5"], ["kernels", "list"]])
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_cache_that_others_can_write_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    mode: int,
) -> None:
    """The error is one line with the remedy, before anything in it is used or removed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("harness.lab.lab.VmBench.reap", lambda _self, also_kept: [])
    (tmp_path / "fim-harness").mkdir()
    (tmp_path / "fim-harness").chmod(mode)
    assert cli.main(words) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"harness: the cache {tmp_path}/fim-harness can be changed by every user of this host",
        f"hint: remove its contents, then chmod go-w {tmp_path}/fim-harness",
    ]
