"""Modules go in after what they need, whatever the kernel's files look like."""

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


def test_what_is_needed_comes_first_and_once() -> None:
    assert names("virtio_pci", "virtio_ring") == ["virtio", "virtio_ring", "virtio_pci"]


def test_soft_dependencies_are_found_by_alias_and_those_that_are_not_there_are_no_error() -> None:
    assert names("erofs") == ["crc32c-intel", "crc32c_generic", "libcrc32c", "erofs"]


def test_a_dash_is_an_underscore() -> None:
    assert names("snd_pcm") == names("snd-pcm") == ["snd-pcm"]


def test_what_is_built_in_needs_no_loading() -> None:
    assert names("ext4") == []


def test_a_module_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(InfrastructureError, match="no module xfs"):
        names("xfs")


def test_a_module_that_need_not_be_there() -> None:
    assert names("?xfs", "?virtio") == ["virtio"]


def test_modules_that_need_each_other_are_an_error_and_no_hang() -> None:
    with pytest.raises(InfrastructureError, match="a -> b -> a"):
        modules.parse("a.ko: b.ko\nb.ko: a.ko\n").load_order(["a"])


def test_a_folder_that_depmod_has_not_seen_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"no modules.dep"):
        modules.read(tmp_path)


def test_only_modules_dep_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(DEP)
    assert modules.read(tmp_path).load_order(["virtio"]) == ["kernel/drivers/virtio/virtio.ko"]


GRAPHS = st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=20).map(
    lambda needs: {n: sorted(m for m in needed if m < n) for n, needed in enumerate(needs)}
)


@given(GRAPHS, st.data())
def test_every_order_respects_every_need(graph: dict[int, list[int]], data: st.DataObject) -> None:
    text = "".join(f"m{n}.ko: {' '.join(f'm{m}.ko' for m in needed)}\n" for n, needed in graph.items())
    wanted = data.draw(st.lists(st.sampled_from(sorted(graph))))
    order = modules.parse(text).load_order([f"m{n}" for n in wanted])
    assert len(set(order)) == len(order)
    for place, path in enumerate(order):
        assert {f"m{m}.ko" for m in graph[int(path[1:-3])]} <= set(order[:place])
    assert {f"m{n}.ko" for n in wanted} <= set(order)
