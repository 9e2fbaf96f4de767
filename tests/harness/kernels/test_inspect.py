"""Release and BTF of a kernel image, with images and BTF that the tests make."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from agent.hooks import points, sets
from harness.errors import InfrastructureError
from harness.kernels import btf, inspect, payload
from harness.plan.cells import Cell
from harness.plan.matrix import Kernel
from harness.results.model import CellReport, Hook
from harness.run import predictions

FUNC, PROTO, INT, STRUCT = 12, 13, 1, 4
OPTIONS = ("BPF_LSM", "DEBUG_INFO_BTF", "DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "KPROBES", "FTRACE_SYSCALLS")
PROMISES = "".join(f"CONFIG_{option}=y\n" for option in OPTIONS)
EVERYTHING = PROMISES + 'CONFIG_FPROBE=y\nCONFIG_HAVE_FTRACE_GRAPH_FUNC=y\nCONFIG_LSM="yama,bpf"\n'


def made(functions: dict[str, tuple[str, ...]]) -> bytes:
    """Make type information with an integer, a structure and these functions."""
    texts = bytearray(b"\0")

    def text(word: str) -> int:
        texts.extend(word.encode() + b"\0")
        return len(texts) - len(word) - 1

    types = struct.pack("<4I", text("int"), INT << 24, 4, 32)
    types += struct.pack("<6I", text("pair"), STRUCT << 24 | 1, 4, text("first"), 1, 0)
    number = 3
    for name, parameters in functions.items():
        types += struct.pack("<3I", 0, PROTO << 24 | len(parameters), 1)
        types += b"".join(struct.pack("<2I", text(one), 1) for one in parameters)
        types += struct.pack("<3I", text(name), FUNC << 24, number)
        number += 2
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(texts))
    return head + types + bytes(texts)


def known(**changes: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    """A kernel that has all functions that programs need, except these."""
    found: dict[str, tuple[str, ...]] = {}
    for one in inspect.predict({}, ""):
        for target in sets.candidates(one.hook, one.kind):
            name = f"bpf_lsm_{target}" if one.kind == "lsm" else target
            found.setdefault(name, points.ARGUMENTS.get(one.hook, ()))
    return {name: value for name, value in (found | changes).items() if value is not None}


def states(**changes: tuple[str, ...] | None) -> dict[tuple[str, str], inspect.Prediction]:
    return {(one.hook, one.kind): one for one in inspect.predict(known(**changes), EVERYTHING)}


def test_parameters_of_functions() -> None:
    """Existing functions are found by name, and not by the end of another name."""
    data = made({"do_unlinkat": ("dfd", "name"), "unlinkat": ("x",), "nothing": ()})
    assert btf.functions(data, ["unlinkat", "do_unlinkat", "nothing", "gone"]) == {
        "do_unlinkat": ("dfd", "name"),
        "unlinkat": ("x",),
        "nothing": (),
    }


@pytest.mark.parametrize("data", [b"", b"\x9f", b"\0" * 64])
def test_bytes_that_are_no_type_information(data: bytes) -> None:
    """The error says that the file is no kernel image."""
    with pytest.raises(btf.BtfError):
        btf.functions(data, ["f"])


def _lz4(data: bytes) -> bytes:
    block: bytes = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress, _lz4],
    ids=["gzip", "xz", "zstd", "lz4"],
)
def test_type_information_in_a_compressed_image(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """It is found for each compression, behind a boot sector, with the data that the build appends."""
    data = made({"f": ("a",)})
    body = compress(b"code" * 100 + data + b"more code") + struct.pack("<I", 400)
    image = bytearray(1024 + 64)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<2I", image, 0x248, 64, len(body))
    path = tmp_path / "vmlinuz"
    path.write_bytes(bytes(image) + body)
    assert payload.type_information(path) == data


def test_an_image_without_type_information_is_an_error(tmp_path: Path) -> None:
    """A damaged image is reported as damaged."""
    (tmp_path / "plain").write_bytes(b"code" * 100)
    with pytest.raises(InfrastructureError, match="the kernel image has no BTF"):
        payload.type_information(tmp_path / "plain")
    (tmp_path / "broken").write_bytes(b"\xfd7zXZ\x00" + b"x" * 100)
    with pytest.raises(InfrastructureError, match="damaged"):
        payload.type_information(tmp_path / "broken")


def test_a_kernel_that_has_everything() -> None:
    """Every hook of every set is predicted to be attached."""
    assert {one.state for one in states().values()} == {"attached"}


def test_a_name_that_is_gone_and_an_argument_that_moved() -> None:
    """The prediction names the hook and how the kernel changed."""
    found = states(
        filename_renameat2=None,
        do_renameat2=None,
        security_path_unlink=("flags", "dir", "dentry"),
    )
    gone, moved = found["rename.enter", "kprobe"], found["unlink.resolve", "kprobe"]
    assert (gone.state, gone.words) == ("absent", "no filename_renameat2 or do_renameat2")
    assert (moved.state, moved.words) == ("drifted", "its argument dir is number 2 here, not 1")
    assert found["unlink.resolve", "lsm"].state == "attached"


def test_program_types_that_the_configuration_does_not_promise() -> None:
    """Programs that would attach and never run, and programs that would not attach."""
    found = {(one.hook, one.kind): one.state for one in inspect.predict(known(), PROMISES)}
    assert found["open.resolve", "lsm"] == "silent"
    assert found["open.enter", "kprobe_multi"] == "attach-fail"
    assert found["open.exit", "kretprobe_multi"] == "attach-fail"
    assert found["open.enter", "fentry"] == "attached"
    by_cmdline = list(inspect.predict(known(), PROMISES, "quiet lsm=yama,bpf"))
    assert {one.state for one in by_cmdline if one.kind == "lsm"} == {"attached"}


def test_programs_that_lockdown_refuses() -> None:
    """Those that are attached through perf, as the kernel observes them."""
    rows = inspect.predict(
        known(do_mkdirat=None, filename_mkdirat=None), EVERYTHING, "lockdown=confidentiality"
    )
    found = {(one.hook, one.kind): one.state for one in rows}
    assert found["open.enter", "kprobe"] == found["mkdir.enter", "kprobe"] == "attach-fail"
    assert (found["open.exit", "kretprobe"], found["syscall.enter", "tracepoint"]) == ("lossy", "attach-fail")
    assert (found["open.enter", "fentry"], found["mkdir.enter", "fentry"]) == ("attached", "absent")


@pytest.mark.parametrize(
    ("head", "state"),
    [
        ("# Linux/x86 6.1.192 Kernel Configuration\nCONFIG_X86=y\n", "attach-fail"),
        ("CONFIG_X86=y\n", "attach-fail"),
        ("# Linux/x86 6.12.117 Kernel Configuration\nCONFIG_X86=y\n", "attached"),
        ("# Linux/arm64 6.1.192 Kernel Configuration\nCONFIG_ARM64=y\n", "attached"),
    ],
)
def test_functions_with_more_arguments_than_a_trampoline_passes(head: str, state: str) -> None:
    """Before 6.6 those of x86 pass six; kprobes read any, and an older name may have fewer."""
    seven = ("dfd", "name", "flags", "parent", "last", "type", "root")
    for older, expected in ((None, state), (seven[:6], "attached")):
        kernel = known(__filename_parentat=seven, filename_parentat=older)
        found = {(one.hook, one.kind): one.state for one in inspect.predict(kernel, head + EVERYTHING)}
        assert (found["parent.given", "fentry"], found["parent.exit", "fexit"]) == (expected, expected)
        assert found["parent.given", "kprobe"] == "attached"


def test_each_reported_hook_has_a_prediction(tmp_path: Path) -> None:
    """Without an image the report is unchanged."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(made(known(do_filp_open=None, do_file_open=None)))
    rows = (Hook(event="open.enter", type="kprobe"), Hook(event="unlink.enter", type="kprobe"))
    report = CellReport(id="6.1-auto", hooks=rows)
    cell = Cell(id="6.1-auto", kernel=Kernel(name="6.1", series="6.1"))
    found = predictions.added(report, cell, {"kernel": str(image)})
    assert [hook.predicted for hook in found.hooks] == ["absent", "attached"]
    hidden = cell.model_copy(update={"btf": "external"})
    lsm = report.model_copy(update={"hooks": (Hook(event="open.resolve", type="lsm"),)})
    assert predictions.added(lsm, hidden, {"kernel": str(image)}).hooks[0].predicted == "load-fail"
    assert predictions.added(report, cell, {}) is report
    (tmp_path / "none").write_bytes(b"x")
    assert predictions.added(report, cell, {"kernel": str(tmp_path / "none")}) is report
