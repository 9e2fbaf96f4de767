"""matrix.lock: its contents, its use by a run, and the message when kernels changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.errors import ConfigError, InfrastructureError, UnknownKernelError
from harness.host.programs import ProgramError
from harness.kernels import KernelRequest, Lock, Package, ResolvedKernel, fetcher, freshness, lock
from harness.kernels.apt import Apt
from tests.harness.conftest import matrix_of


def kernel(series: str, abi: int = 1, arch: str = "amd64") -> ResolvedKernel:
    release = f"{series}.0-{abi}-cloud-{arch}"
    filename = f"pool/main/l/linux/linux-image-{release}_1_{arch}.deb"
    package = Package(f"linux-image-{release}", f"{series}.{abi}-1", f"{abi:064x}", 3, filename)
    return ResolvedKernel(series, series, release, arch, "trixie", (package,))


def a_lock(*kernels: ResolvedKernel, known: tuple[str, ...] = ()) -> Lock:
    return Lock({(one.series, "cloud", one.arch): one for one in kernels}, known)


class Repositories:
    """Fake answers of `resolve` and `available`."""

    def __init__(self, *kernels: ResolvedKernel) -> None:
        self.kernels = list(kernels)

    def resolve(self, request: KernelRequest, **_: object) -> ResolvedKernel:
        for one in self.kernels:
            if (one.series, one.arch) == (request.series, request.arch):
                return replace(one, name=request.name)
        raise UnknownKernelError(f"the repositories have no {request.series!r}")

    def available(self, *_: object, **__: object) -> list[ResolvedKernel]:
        return self.kernels


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> Repositories:
    found = Repositories(kernel("6.1"), kernel("6.12"), kernel("7.3"))
    monkeypatch.setattr(freshness, "resolve", found.resolve)
    monkeypatch.setattr(freshness, "available", found.available)
    return found


def test_a_written_lock_is_read_and_written_the_same(tmp_path: Path) -> None:
    """Entries are sorted by version and not as text, whatever the order of the matrix."""
    path = tmp_path / "matrix.lock"
    lock.store(path, a_lock(kernel("6.12"), kernel("6.1"), kernel("5.10"), known=("6.12", "6.1")))
    found = lock.load(path)
    assert found
    assert found.to_json() == path.read_text()
    assert [row["series"] for row in json.loads(path.read_text())["kernels"]] == ["5.10", "6.1", "6.12"]
    assert found.known == ("6.1", "6.12")


def test_a_locked_kernel_has_the_name_of_the_matrix() -> None:
    found = a_lock(kernel("6.1")).find(KernelRequest("old", "6.1"))
    assert found
    assert (found.name, found.release) == ("old", "6.1.0-1-cloud-amd64")
    assert a_lock(kernel("6.1")).find(KernelRequest("old", "6.1", flavour="rt")) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("series", "6_1"),
        ("release", "../../etc/passwd"),
        ("suite", "trixie main\ndeb http://elsewhere"),
        ("packages.sha256", "0"),
        ("packages.filename", "pool/../../secret.deb"),
        ("packages.version", "-oDebug=1"),
        ("packages.surplus", "x"),
    ],
)
def test_a_hostile_lock_is_refused(tmp_path: Path, field: str, value: str) -> None:
    path = tmp_path / "matrix.lock"
    plain: dict[str, Any] = json.loads(a_lock(kernel("6.1")).to_json())
    row = plain["kernels"][0]
    (row if "." not in field else row["packages"][0])[field.rpartition(".")[2]] = value
    path.write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match="invalid lock file"):
        lock.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": 2, "known": [], "kernels": []}',
        '{"schema": 1}',
        '{"schema": 1, "known": ["new: 6.1"], "kernels": []}',
        '{"schema": 1, "known": [6.1], "kernels": []}',
        "[" * 100_000,
    ],
)
def test_an_invalid_lock_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "matrix.lock"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        lock.load(path)
    assert "harness kernels lock" in caught.value.hint


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling link", "loop"])
def test_a_lock_that_is_no_file_is_named_with_its_remedy(tmp_path: Path, kind: str) -> None:
    """It is neither waited for nor treated as a missing lock."""
    path = tmp_path / "matrix.lock"
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "dangling link": lambda: path.symlink_to(tmp_path / "gone"),
        "loop": lambda: path.symlink_to(path),
    }
    make[kind]()
    with pytest.raises(ConfigError) as caught:
        lock.load(path)
    assert str(path) in caught.value.message
    assert "Errno" not in caught.value.message
    assert caught.value.hint == "remove it; `harness kernels lock` writes a new one"


def test_a_link_to_a_lock_is_followed(tmp_path: Path) -> None:
    lock.store(tmp_path / "real", a_lock(kernel("6.1")))
    (tmp_path / "matrix.lock").symlink_to("real")
    assert lock.load(tmp_path / "matrix.lock") == lock.load(tmp_path / "real")


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Another user could have guessed the temporary name in a folder such as /tmp."""
    (tmp_path / f".matrix.lock.{os.getpid()}").symlink_to(tmp_path / "precious")
    lock.store(tmp_path / "matrix.lock", a_lock(kernel("6.1")))
    assert not (tmp_path / "precious").exists()
    assert lock.load(tmp_path / "matrix.lock")


@pytest.mark.parametrize(("mode", "who"), [(0o666, "every user of this host"), (0o620, "the group 1000")])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_lock_that_others_can_write_is_refused(tmp_path: Path, mode: int, who: str) -> None:
    """It names packages, whose digests the harness then trusts."""
    path = tmp_path / "matrix.lock"
    lock.store(path, a_lock(kernel("6.1")))
    path.chmod(0o664)
    assert lock.load(path)  # as with umask 002
    os.chown(path, 0, 1000)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{who} can change it") as caught:
        lock.load(path)
    assert caught.value.hint.endswith(str(path))


@pytest.mark.parametrize("name", ["matrix.lock", ".", "real/matrix.lock", "real"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_lock_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    """The owner of the link, its folder, the file, or the folder of the file."""
    (tmp_path / "real").mkdir()
    lock.store(tmp_path / "real" / "matrix.lock", a_lock(kernel("6.1")))
    path = tmp_path / "matrix.lock"
    path.symlink_to("real/matrix.lock")
    os.chown(tmp_path / name, 1000, 1000, follow_symlinks=False)
    with pytest.raises(ConfigError, match="is owned by uid 1000, who could change"):
        lock.load(path)


def test_a_lock_changes_only_with_update(repositories: Repositories) -> None:
    old = freshness.make(matrix_of("6.1", "6.12"), None, update=False)[0]
    repositories.kernels[0] = kernel("6.1", 2)
    assert freshness.make(matrix_of("6.1", "6.12"), old, update=False) == (old, [])
    new = freshness.make(matrix_of("6.1", "6.12"), old, update=True)[0]
    assert [str(move) for move in old.moved(new)] == [
        "6.1 cloud amd64: 6.1.0-1-cloud-amd64 -> 6.1.0-2-cloud-amd64"
    ]


def test_a_series_that_is_gone_keeps_its_entry(repositories: Repositories) -> None:
    """The error is returned and the other kernels are locked; without an old entry the kernel is left out."""
    old = freshness.make(matrix_of("6.1", "6.12"), None, update=False)[0]
    repositories.kernels = [kernel("6.12", 2)]
    new, errors = freshness.make(matrix_of("5.10", "6.1", "6.12"), old, update=True)
    assert {key[0]: entry.release for key, entry in new.kernels.items()} == {
        "6.1": kernel("6.1").release,
        "6.12": kernel("6.12", 2).release,
    }
    assert [error.message for error in errors] == [
        "the repositories have no '5.10'",
        "the repositories have no '6.1'",
    ]
    with pytest.raises(UnknownKernelError):
        freshness.make(matrix_of("5.10", "6.1"), old, update=True)


def test_the_command_writes_the_other_kernels_and_exits_3(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kernel that could not be resolved is one line of the error."""
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: ['6.1', '5.10']\n")
    assert cli.main(["kernels", "lock", "--matrix", str(matrix)]) == 3
    assert "no '5.10'; its entry, if any, is unchanged" in capsys.readouterr().err
    found = lock.load(tmp_path / "matrix.lock")
    assert found
    assert [key[0] for key in found.kernels] == ["6.1"]


def test_new_kernels_are_locked_and_old_ones_removed(repositories: Repositories) -> None:
    old = freshness.make(matrix_of("6.1"), None, update=False)[0]
    new = freshness.make(matrix_of("6.12"), old, update=False)[0]
    assert [str(move) for move in old.moved(new)] == [
        "6.1 cloud amd64: 6.1.0-1-cloud-amd64 -> no longer in the matrix",
        "6.12 cloud amd64: not locked -> 6.12.0-1-cloud-amd64",
    ]


def test_a_rebuilt_package_counts_as_a_change() -> None:
    again = replace(kernel("6.1", 2), release=kernel("6.1").release)
    (move,) = a_lock(kernel("6.1")).moved(a_lock(again))
    assert "rebuilt" in str(move)


def test_entries_with_tags_are_locked_too(repositories: Repositories) -> None:
    """The kernels of the nightly run are in the same file."""
    matrix = matrix_of("6.1", include=[{"kernel": "6.1", "arch": "arm64", "tags": ["nightly"]}])
    assert [request.arch for request in freshness.requests(matrix)] == ["amd64", "arm64"]


def test_an_update_prints_the_command_that_tests_the_changed_kernels(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a change there is no such line."""
    matrix = tmp_path / "matrix.yaml"
    names = ("6.1", "6.12")
    entries = [{"name": name, "series": name, "flavour": "cloud"} for name in names]
    matrix.write_text(json.dumps({"kernels": entries, "hooksets": ["auto"]}))
    words = ["kernels", "lock", "--update", "--matrix", str(matrix)]
    assert cli.main(words) == 0
    capsys.readouterr()
    repositories.kernels[1] = kernel("6.12", 2)
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.out == "6.12 cloud amd64: 6.12.0-1-cloud-amd64 -> 6.12.0-2-cloud-amd64\n"
    assert "harness: run them: harness run --kernel 6.12\n" in printed.err
    assert cli.main(words) == 0
    assert "run them" not in capsys.readouterr().err


def test_a_series_that_the_lock_does_not_know_is_new(repositories: Repositories) -> None:
    """A series that existed when the file was written is not new, although the matrix lacks it."""
    locked = freshness.make(matrix_of("6.1"), None, update=False)[0]
    repositories.kernels.append(kernel("7.4"))
    found = freshness.new_series(repositories.available(), matrix_of("6.1"), locked)
    assert [one.series for one in found] == ["7.4"]
    assert freshness.new_series(repositories.available(), matrix_of("6.1", "7.4"), locked) == []


class _Apt:
    """An archive with an empty index, with or without the file of the package."""

    def __init__(self, *, has_file: bool) -> None:
        self.has_file = has_file

    def refresh(self, _progress: object) -> None:
        pass

    def show(self, _names: object) -> list[dict[str, str]]:
        return []

    def download_file(self, _filename: str, _sha256: str, target: Path) -> None:
        if not self.has_file:
            raise ProgramError("404", hint="", status=100, stderr="404  Not Found")
        target.write_bytes(b"deb")


def _fetch(apt: object, folder: Path) -> None:
    assert isinstance(apt, _Apt)
    as_apt: Apt = apt  # type: ignore[assignment]
    fetcher.download(as_apt, kernel("6.1"), folder, lambda _line: None)


def test_a_locked_package_that_left_the_index_is_fetched_by_its_file(tmp_path: Path) -> None:
    _fetch(_Apt(has_file=True), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["linux-image-6.1.0-1-cloud-amd64_1_amd64.deb"]


def test_a_locked_package_that_is_gone_is_one_line_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="neither in the cache nor in trixie any more") as caught:
        _fetch(_Apt(has_file=False), tmp_path)
    assert "harness kernels lock --update" in caught.value.hint
