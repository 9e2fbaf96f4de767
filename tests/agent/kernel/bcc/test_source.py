"""The source for bcc: placeholders for functions, maps and constants, the rest unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.hooks import needs, sets
from agent.kernel import map_writer
from agent.kernel.bcc import backend, layout
from agent.kernel.bcc import source as bcc_source
from agent.kernel.bcc.source import CALL, DATA, Constant, Function
from tests import ROOT

BPF = ROOT / "bpf"

SMALL = """\
#include "kernel.h"
#include "more.h"
#include "more.h"
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * 8);
	__type(key, __u32);
	__type(value, struct thing);
} things SEC(".maps");
const volatile __u32 use = 0;
const volatile __u8 many[ROOM] = {};
__noinline __u64 twice(__u32 a,
		__u64 b)
{
	return bpf_map_lookup_elem(&things, &a) ? use + b : other->things;
}
int on_kprobe__x(void *ctx)
{
	return twice(1, (__u64)&things_of->use);
}
"""


@pytest.fixture
def small(tmp_path: Path) -> bcc_source.Source:
    """A source of one map, two constants and one function."""
    (tmp_path / "root.c").write_text(SMALL)
    (tmp_path / "bcc.h").write_text("/* the kernel's headers */\n")
    (tmp_path / "more.h").write_text("/* once */\n")
    return bcc_source.read(tmp_path, ("on_kprobe__x",), "root.c")


def test_references_become_numbers(small: bcc_source.Source) -> None:
    """Functions are called by number, and maps and constants are data; fields of their names stay."""
    assert small.functions == (Function("twice", "__u64", ("__u32", "__u64")),)
    assert small.data == ("things", "use", "many")
    assert small.constants == (Constant("use", "__u32", False), Constant("many", "__u8", True))
    assert f"static __u64 (*twice)(__u32 a,\n\t\t__u64 b) = (void *){CALL:#x};" in small.body
    assert "__u64 fn_twice(__u32 a," in small.body
    assert "bpf_map_lookup_elem(FIM_DATA(0), &a)" in small.body
    assert "other->things" in small.body
    assert "&things_of->use" in small.body
    assert "#define use (*(const volatile __u32 *)FIM_DATA(1))" in small.body
    assert "#define many ((const volatile __u8 *)FIM_DATA(2))" in small.body
    assert f"{DATA:#x}" in small.body
    assert "SEC" not in small.body


def test_the_compiler_computes_sizes(small: bcc_source.Source) -> None:
    """Each by a function that returns it, because only the compiler knows it."""
    asked = dict(re.findall(r"int (size_\w+)\(void\)\n\{\n\treturn (.*);\n\}", small.body))
    assert asked == {
        "size_type__things": "BPF_MAP_TYPE_ARRAY",
        "size_key_size__things": "sizeof(__u32)",
        "size_value_size__things": "sizeof(struct thing)",
        "size_max_entries__things": "2 * 8",
        "size_map_flags__things": "0",
        "size_constant__use": "sizeof(__u32)",
        "size_constant__many": "sizeof(__u8[ROOM])",
    }


def test_kept_functions_are_declared_in_the_main_file(small: bcc_source.Source) -> None:
    """Without parameters, because bcc would take them for registers."""
    assert "__u64 fn_twice();\n" in small.main
    assert "int on_kprobe__x();\n" in small.main
    assert set(re.findall(r"(\w+)\(\);", small.main)) == set(small.kept)
    assert small.main.endswith('#include "body.h"\n')


def test_headers_are_included_once(small: bcc_source.Source) -> None:
    """bcc.h replaces the header for relocation."""
    assert small.body.count("/* once */") == small.body.count("/* the kernel's headers */") == 1


@pytest.fixture(scope="module")
def real() -> bcc_source.Source:
    """The agent's own."""
    return bcc_source.read(BPF, tuple(backend.symbols().values()))


def test_no_reference_is_left(real: bcc_source.Source) -> None:
    """A reference without placeholder would silently become address 0."""
    code = re.sub(r"/\*.*?\*/", "", real.body, flags=re.DOTALL)
    assert 'SEC(".maps")' not in code
    assert "__noinline" not in code
    assert "const volatile" not in re.sub(r"#define .*|\(const volatile", "", code)
    assert not [name for name in real.maps if re.search(rf"&{name}\b(?!->|\.)", code)]
    assert len(real.functions) > 10
    assert "inflight" in real.maps


def test_each_macro_of_kernel_h_has_a_counterpart_in_bcc_h(real: bcc_source.Source) -> None:
    """Otherwise a missing macro of bpf/bcc.h would show only in a guest."""
    used = set(re.findall(r"\b(bpf_core_\w+|BPF_CORE_\w+|BPF_PROBE_\w+)\(", real.body))
    known = set(re.findall(r"#define (\w+)\(", (BPF / "bcc.h").read_text()))
    assert used
    assert used <= known


def test_each_hook_of_the_set_has_its_program(real: bcc_source.Source) -> None:
    """Otherwise a missing program would show only in a guest, as an error of the compiler."""
    points = (BPF / "points.h").read_text()
    for hook in needs.HOOKS:
        if sets.kind_of(hook, sets.BCC):
            point, phase = hook.split(".")
            assert re.search(rf"X\({point}, (?:{phase}, )?\w+\)", points), hook
            assert f"on_{sets.program(hook, sets.kind_of(hook, sets.BCC))}" in real.kept


def test_programs_write_tables(real: bcc_source.Source) -> None:
    """Without them user space writes by bpf(2), and kprobes miss events meanwhile: see bpf/maps.h."""
    written = re.findall(r"^int (write__\w+)\(", (BPF / "map_writer.bpf.c").read_text(), flags=re.MULTILINE)
    assert sorted(map_writer.PROGRAMS) == sorted(written)
    assert set(written) <= set(real.kept)
    assert 'SEC("syscall")\nint write__discarders__update' in real.body
    assert "#define SEC(name)\n" in real.body


def test_the_program_that_reads_memory_has_one_map() -> None:
    """It has no functions and no constants."""
    source = bcc_source.read(BPF, (f"on_{layout.PROGRAM}",), layout.ROOT)
    assert (source.maps, source.functions, source.constants) == (("memory",), (), ())
