"""Hosts with a faulty KVM: it is slow, it passes the canary and boots nothing, or it is lost during a run.

A host with such a KVM is rare and one without any is not, so KVM is played: its machines run under TCG. What
decides is real: the canary under TCG, the choice, its memory (a fresh one), the machines, the second start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from harness.host import acceleration, canary
from harness.host.acceleration import Obstacle
from harness.host.canary import Native, Sample
from harness.vm import domain
from harness.vm.domain import MachineSpec
from tests.campaigns.faults.scene import Scene

BOOT_S = 120.0
_ANY = "console=ttyS0"
# A kernel that waits for its root for ever and prints elsewhere.
_MUTE = "console=ttyS9 rdinit=/nothing root=/dev/nothing rootwait"


def slow(scene: Scene) -> None:
    """The canary takes 30 times as long under KVM as under TCG."""
    _host(scene, times=30.0)
    scene.remarks.append(scene.bench.accelerator(scene.cell.arch)[1])


def mute(scene: Scene) -> None:
    """The canary is fast under KVM, and a kernel there prints nothing."""
    _host(scene, times=0.1)
    _played(scene, _MUTE)
    _begins_under_kvm(scene)


def lost(scene: Scene) -> None:
    """A first machine boots under KVM; afterwards /dev/kvm cannot be opened."""
    _host(scene, times=0.1)
    _played(scene, _ANY)
    _begins_under_kvm(scene)
    first = scene.bench.machine(scene.cell, scene.supplies, scene.folder / "machine-before")
    # What is saved of it would pass for a machine under KVM.
    first._starter._starter._snapshots = None
    try:
        first.boot(BOOT_S)
        assert first.accelerator == "kvm", "the first machine did not use KVM"
    finally:
        first.destroy()
    _patch(scene, acceleration, "_obstacle", lambda *_: Obstacle("no permission to open /dev/kvm", ""))


def _begins_under_kvm(scene: Scene) -> None:
    kind, why = scene.bench.accelerator(scene.cell.arch)
    assert kind == "kvm", f"the run did not begin under KVM: {why}"
    scene.supplies = scene.supplies.model_copy(update={"accelerators": {scene.cell.arch: kind}})


def _host(scene: Scene, times: float) -> None:
    """Return a host without a stored choice, with a KVM so many times slower than TCG."""
    measured = canary.run

    def run(native: Native, program: Path, accelerator: str, deadline_s: float, cpu: str = "") -> Sample:
        found = measured(native, program, "tcg", deadline_s, cpu)
        if accelerator == "tcg" or found.seconds is None:
            return found
        seconds = found.seconds * times
        return Sample(seconds) if seconds < deadline_s else Sample(failure=f"more than {deadline_s:.1f} s")

    _patch(scene, canary, "run", run)
    _patch(scene, acceleration, "default_root", lambda: scene.folder / "host")
    _patch(scene, acceleration, "_obstacle", lambda *_: None)


def _played(scene: Scene, words: str) -> None:
    """Run machines that are to use KVM under TCG, with another kernel command line."""
    rendered = domain.render

    def render(spec: MachineSpec, **more: Any) -> str:
        xml = rendered(spec, **more)
        if spec.kind != "kvm":
            return xml
        xml = xml.replace('<domain type="kvm"', '<domain type="qemu"').replace("host-passthrough", "maximum")
        return xml.replace(_ANY, words)

    _patch(scene, domain, "render", render)


def _patch(scene: Scene, module: object, name: str, value: object) -> None:
    patch = mock.patch.object(module, name, value)
    patch.start()
    scene.undo.append(patch.stop)
