"""Kernels of the user, once for real: Debian's own kernel, laid out as builds and packages leave one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.results import results_file
from harness.results.verdict import Verdict

pytestmark = pytest.mark.guest

HARNESS = [sys.executable, "-m", "harness.cli"]
MATRIX = """
kernels: [{name: own, build: tree}]
suites:
  - {name: plain, command: ["true"]}
  - name: smoke
    command: [sh, -c, "test $(cat /proc/sys/kernel/kptr_restrict) = 2"]
    sysctl: {name: hard, values: {kernel.kptr_restrict: 2}}
  - name: gone
    command: ["true"]
    sysctl: {name: gone, values: {kernel.io_uring_disabled: 2}}
"""


def harness(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HARNESS, *words], cwd=place, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a matrix and `tree`, which is what `make tar-pkg` packs."""
    from harness.kernels import KernelRequest, fetch, resolve

    kernel = fetch(resolve(KernelRequest("6.1", "6.1")))
    assert kernel.config
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    boot = tmp_path / "tree/boot"
    boot.mkdir(parents=True)
    # With bytes of its own, so that no earlier test has booted this kernel.
    (boot / f"vmlinuz-{kernel.release}").write_bytes(kernel.vmlinuz.read_bytes() + os.urandom(16))
    shutil.copyfile(kernel.config, boot / f"config-{kernel.release}")
    shutil.copytree(kernel.modules, tmp_path / "tree/lib/modules" / kernel.release)
    return tmp_path


def image(place: Path) -> Path:
    return next(place.glob("tree/boot/vmlinuz-*"))


def test_a_tree_boots_three_times_and_counts_once_it_did(place: Path) -> None:
    """A changed image is another kernel, which does so again. A sysctl that does not hold is NOT_RUN."""
    for name, notes in (("first", 1), ("second", 0), ("changed", 1)):
        if name == "changed":
            with image(place).open("ab") as file:
                file.write(os.urandom(16))
        done = harness(place, "run", "-n", "0", "--output", name)
        assert done.returncode == 4, done.stdout + done.stderr
        found = results_file.load(place / name / "results.json")
        assert {cell.id: cell.verdict for cell in found.cells} == {
            "own-plain": Verdict.PASS,
            "own-smoke-hard": Verdict.PASS,
            "own-gone-gone": Verdict.NOT_RUN,
        }
        said = [note for note in found.run.notes if re.search("is new here: it booted 3 times", note)]
        assert len(said) == notes


def test_a_kernel_that_cannot_mount_a_disk_has_its_root_in_memory(place: Path) -> None:
    """And its modules: without erofs and overlay, built or loadable."""
    for path in [*place.glob("tree/**/erofs.ko"), *place.glob("tree/**/overlay.ko")]:
        path.unlink()
    config = next(place.glob("tree/boot/config-*"))
    config.write_text(
        re.sub(r"CONFIG_(EROFS_FS|OVERLAY_FS)=.", r"# CONFIG_\1 is not set", config.read_text())
    )
    done = harness(
        place, "exec", "--kernel", "./tree", "--", "sh", "-c", "modprobe xfs && grep ' / ' /proc/mounts"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rootfs / rootfs ")


def test_a_kernel_that_cannot_be_a_guest_is_not_booted(place: Path) -> None:
    """What it lacks is printed as options to set."""
    config = next(place.glob("tree/boot/config-*"))
    config.write_text(config.read_text().replace("CONFIG_DEVTMPFS=y\n", ""))
    done = harness(place, "run", "--kernel", "./tree", "--output", "out")
    assert done.returncode == 2
    assert "cannot be a guest here; it lacks CONFIG_DEVTMPFS (/dev)" in done.stderr
    assert "scripts/config -e DEVTMPFS" in done.stderr
    assert not (place / "out").exists()
