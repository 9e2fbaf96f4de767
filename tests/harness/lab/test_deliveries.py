"""Kernels are fetched side by side from a served archive; each machine can boot as soon as it has its own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import Event, Phase, Step
from harness.images import RootImage
from harness.kernels import preflight
from harness.kernels.preflight import Root
from harness.lab import supplies
from harness.lab.supplies import Preparation
from harness.plan.cells import Cell
from harness.plan.matrix import Kernel
from harness.plan.plan import Plan
from harness.run.supplies import Deliveries
from tests.harness.kernels import signed
from tests.harness.kernels.conftest import keys, own_cache
from tests.harness.kernels.signed import RELEASE, Keys

__all__ = ["keys", "own_cache"]

PROGRAMS = ("apt-get", "apt-config", "gpg", "gpgconf", "depmod")
pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="apt, gpg or kmod is not installed"),
]
WAIT_S = 600.0  # then a gate fails its request, so that a test that hangs ends
SLOW, FAST = "slow-amd64", "fast-amd64"
IMAGES = {"slow": "linux-image-6.11.0-own", "fast": f"linux-image-{RELEASE}"}


class Archive:
    """A served archive with two kernels; `gate` is called before each request for a kernel's image."""

    def __init__(self, folder: Path, keys: Keys, cell: Cell) -> None:
        self.gate: Callable[[str], object] = lambda _path: None
        self.folder = folder
        self.events: list[Event] = []
        self._cell = cell
        signed.apt_archive(folder / "web", keys)
        (folder / "key").write_bytes(keys.public())

    def asked(self, path: str) -> None:
        if "/linux-image-" in path:
            self.gate(path)

    def plan(self, url: str) -> Plan:
        kernels = [
            Kernel(name=name, apt=url, suite="stable", key=str(self.folder / "key"), package=package)
            for name, package in IMAGES.items()
        ]
        cells = [
            self._cell.model_copy(update={"id": one.name, "kernel": one, "tests": ()}) for one in kernels
        ]
        return Plan(schema=1, cells=tuple(cells))


@pytest.fixture
def archive(tmp_path: Path, keys: Keys, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """With images that need neither a root nor a real kernel."""
    monkeypatch.setattr(preflight, "check", lambda _kernel: Root.DISK)
    monkeypatch.setattr(supplies, "root_image", lambda *_, **_more: RootImage(Path("root"), "d", ()))
    monkeypatch.setattr(supplies, "initramfs", lambda *_: Path("initramfs"))
    monkeypatch.setattr(supplies, "modules_image", lambda *_, **_more: Path("modules"))
    return Archive(tmp_path, keys, cell)


@pytest.fixture
def delivered(archive: Archive) -> Iterator[Callable[[], Deliveries]]:
    """Begin the deliveries of the archive's kernels; they end with the test."""
    with signed.served(archive.folder / "web", archive.asked) as url:
        begun: list[Deliveries] = []

        def begin() -> Deliveries:
            preparation = Preparation("tcg", archive.events.append)
            preparation.pause = lambda _seconds: None
            begun.append(preparation.deliver(archive.plan(url)))
            return begun[-1]

        yield begin
        for one in begun:
            one.end()


def test_two_kernels_of_an_archive_are_fetched_side_by_side(
    archive: Archive, delivered: Callable[[], Deliveries]
) -> None:
    """The archive answers neither request before it has both."""
    both = threading.Barrier(2, timeout=WAIT_S)
    archive.gate = lambda _path: both.wait()
    found = delivered().whole()
    assert not found.missing
    assert {name: facts.release for name, facts in found.kernels.items()} == {SLOW: RELEASE, FAST: RELEASE}
    fetched = {one.machine for one in archive.events if isinstance(one, Step) and one.phase is Phase.FETCH}
    assert {SLOW, FAST} <= fetched


def test_the_first_machine_can_boot_while_the_kernel_of_another_is_fetched(
    archive: Archive, delivered: Callable[[], Deliveries]
) -> None:
    """Its supplies have nothing of the other, whose download the archive holds back."""
    go = threading.Event()
    archive.gate = lambda path: go.wait(WAIT_S) if IMAGES["slow"] in path else None
    deliveries = delivered()
    assert (deliveries.ready(FAST), deliveries.ready(SLOW)) == (True, False)
    assert set(deliveries.of(FAST).files) == set(deliveries.arrived().files) == {FAST}
    go.set()
    assert set(deliveries.of(SLOW).files) == {SLOW}
    assert set(deliveries.whole().files) == {FAST, SLOW}


def test_a_kernel_that_cannot_be_fetched_costs_its_own_machine(
    archive: Archive, delivered: Callable[[], Deliveries]
) -> None:
    """The archive lost the file after its index was read."""
    lost = next((archive.folder / "web/pool").rglob(f"{IMAGES['slow']}_*"))
    archive.gate = lambda path: lost.unlink(missing_ok=True) if IMAGES["slow"] in path else None
    found = delivered().whole()
    assert set(found.files) == {FAST}
    assert "404" in found.missing[SLOW]
    assert not list(Cache().root.glob("**/*.partial"))


def test_the_end_stops_a_download_and_caches_nothing_of_it(
    archive: Archive, delivered: Callable[[], Deliveries]
) -> None:
    """Whatever has arrived stays."""
    go = threading.Event()
    archive.gate = lambda path: go.wait(WAIT_S) if IMAGES["slow"] in path else None
    deliveries = delivered()
    try:
        deliveries.end()
    finally:
        go.set()
    assert set(deliveries.arrived().files) == {FAST}
    assert deliveries.of(SLOW).missing == {SLOW: "the run ended before it"}
    assert not deliveries.defects()
    kernels = Cache().root / "kernels"
    assert len(list(kernels.glob("*/manifest.json"))) == 1
    assert not list(kernels.glob("*.partial"))


def test_kernels_that_are_all_refused_are_an_error(
    delivered: Callable[[], Deliveries], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one kernel alone, with the remedy."""

    def refuse(_kernel: object) -> None:
        raise ConfigError("it lacks virtio", hint="set VIRTIO_BLK=m")

    monkeypatch.setattr(preflight, "check", refuse)
    with pytest.raises(ConfigError, match="it lacks virtio") as caught:
        delivered()
    assert caught.value.hint == "set VIRTIO_BLK=m"


def test_an_unexpected_error_costs_one_machine_and_is_reported(
    archive: Archive, delivered: Callable[[], Deliveries], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run records it as a failure of the harness."""
    supply = Preparation._supply

    def fail(self: Preparation, name: str, *words: Any) -> None:
        if name == SLOW:
            raise KeyError("a defect")
        supply(self, name, *words)

    monkeypatch.setattr(Preparation, "_supply", fail)
    deliveries = delivered()
    assert set(deliveries.of(FAST).files) == {FAST}
    assert deliveries.of(SLOW).missing == {SLOW: "the harness failed: 'a defect'"}
    assert [*deliveries.defects()] == [SLOW]
    assert set(deliveries.arrived().files) == {FAST}
    with pytest.raises(KeyError):
        deliveries.whole()
