"""Each module is loaded after those that it depends on, in any layout of a kernel's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InfrastructureError
from harness.images import modules

DEP = """\
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/lib/libcrc32c.ko.xz:
kernel/fs/erofs/erofs.ko.zst: kernel/lib/libcrc32c.ko.xz
kernel/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/sound/snd-pcm.ko:
"""

SOFT = """\
# Soft dependencies extracted from modules themselves.
softdep libcrc32c pre: crc32c missing post: snd-pcm
softdep cifs gcm
"""

ALIAS = "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias pci:v*d* virtio_pci\nalias odd\n"

KERNEL = modules.parse(DEP, softdep=SOFT, alias=ALIAS, builtin="kernel/fs/ext4/ext4.ko\n")


def names(*wanted: str) -> list[str]:
    return [Path(path).name.partition(".")[0] for path in KERNEL.load_order(wanted)]


def test_dependencies_come_first_and_once() -> None:
    assert names("virtio_pci", "virtio_ring") == ["virtio", "virtio_ring", "virtio_pci"]


def test_soft_dependencies_are_found_by_alias_and_may_be_missing() -> None:
    assert names("erofs") == ["crc32c-intel", "crc32c_generic", "libcrc32c", "erofs"]


def test_a_dash_is_an_underscore() -> None:
    assert names("snd_pcm") == names("snd-pcm") == ["snd-pcm"]


def test_built_in_modules_are_not_loaded() -> None:
    assert names("ext4") == []


def test_a_missing_module_is_an_error() -> None:
    with pytest.raises(InfrastructureError, match="no module xfs"):
        names("xfs")


def test_an_optional_module_may_be_missing() -> None:
    assert names("?xfs", "?virtio") == ["virtio"]


def test_a_cycle_of_modules_is_an_error() -> None:
    with pytest.raises(InfrastructureError, match="a -> b -> a"):
        modules.parse("a.ko: b.ko\nb.ko: a.ko\n").load_order(["a"])


def test_a_folder_without_modules_dep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"no modules.dep"):
        modules.read(tmp_path)


def test_only_modules_dep_is_required(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(DEP)
    assert modules.read(tmp_path).load_order(["virtio"]) == ["kernel/drivers/virtio/virtio.ko"]


GRAPHS = st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=20).map(
    lambda needs: {n: sorted(m for m in needed if m < n) for n, needed in enumerate(needs)}
)


@given(GRAPHS, st.data())
def test_every_order_respects_every_dependency(graph: dict[int, list[int]], data: st.DataObject) -> None:
    text = "".join(f"m{n}.ko: {' '.join(f'm{m}.ko' for m in needed)}\n" for n, needed in graph.items())
    wanted = data.draw(st.lists(st.sampled_from(sorted(graph))))
    order = modules.parse(text).load_order([f"m{n}" for n in wanted])
    assert len(set(order)) == len(order)
    for place, path in enumerate(order):
        assert {f"m{m}.ko" for m in graph[int(path[1:-3])]} <= set(order[:place])
    assert {f"m{n}.ko" for n in wanted} <= set(order)
