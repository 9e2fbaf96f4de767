"""Building an object from compiled functions: libbpf opens it, and a kernel runs it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from agent.kernel import btf
from agent.kernel.bcc import object_file
from agent.kernel.bcc.source import CALL, DATA, Constant, Function, Source
from agent.kernel.libbpf import Object
from tests.agent.kernel.conftest import load_programs

MAP_ARRAY = 2
EXIT = (0x95, 0, 0, 0)
SOURCE = Source(
    main="",
    body="",
    kept=(),
    functions=(Function("double", "__u64", ("__u64",)),),
    maps=("numbers",),
    constants=(Constant("bias", "__u32", False), Constant("table", "__u8", True)),
)


def code(*instructions: tuple[int, int, int, int]) -> bytes:
    """Instructions as opcode, registers (source in the high half), offset and immediate."""
    return b"".join(struct.pack("=BBhi", *one) for one in instructions)


def returning(value: int) -> bytes:
    """A function that returns a number."""
    return code((0xB7, 0, 0, value), EXIT)


def load(register: int, number: int) -> tuple[tuple[int, int, int, int], ...]:
    """Instructions that load a placeholder into a register."""
    return (0x18, 1 << 4 | register, 0, DATA + number), (0, 0, 0, 0)


SIZES = {
    "size_type__numbers": returning(MAP_ARRAY),
    "size_key_size__numbers": returning(4),
    "size_value_size__numbers": returning(8),
    "size_max_entries__numbers": returning(3),
    "size_map_flags__numbers": returning(0),
    "size_constant__bias": returning(4),
    "size_constant__table": returning(5),
}
DOUBLE = code((0xBF, 1 << 4, 0, 0), (0x0F, 0, 0, 0), EXIT)  # r0 = r1; r0 += r0
ANSWER = code(
    (0xBF, 1 << 4 | 6, 0, 0),  # r6 = r1, the context
    *load(2, 1),  # r2 = &bias
    (0x61, 2 << 4 | 1, 0, 0),  # r1 = *(u32 *)r2
    (0x07, 1, 0, 20),  # r1 += 20
    (0x85, 0, 0, CALL),  # r0 = double(r1)
    (0x7B, 0 << 4 | 6, 0, 0),  # *(u64 *)r6 = r0
    (0xB7, 1, 0, 1),
    (0x63, 1 << 4 | 10, -4, 0),  # the key 1, on the stack
    *load(1, 0),  # r1 = &numbers
    (0xBF, 10 << 4 | 2, 0, 0),
    (0x07, 2, 0, -4),
    (0x85, 0, 0, 1),  # r0 = bpf_map_lookup_elem(r1, r2)
    (0x15, 0, 2, 0),
    (0x79, 0 << 4 | 1, 0, 0),
    (0x7B, 1 << 4 | 6, 8, 0),  # *(u64 *)(r6 + 8) = the value
    (0xB7, 0, 0, 0),
    EXIT,
)


@pytest.fixture
def opened(tmp_path: Path) -> Object:
    """An object with one program that runs on request."""
    functions = {"on_answer": ANSWER, "fn_double": DOUBLE, **SIZES}
    path = tmp_path / "object.o"
    path.write_bytes(object_file.build(SOURCE, functions, {"syscall__answer": "on_answer"}))
    return Object(str(path))


def test_libbpf_finds_programs_maps_and_constants(opened: Object) -> None:
    """Programs, maps with their sizes, and constants by name."""
    assert list(opened.programs) == ["syscall__answer"]
    numbers = opened.maps["numbers"]
    assert (numbers.key_size, numbers.value_size, numbers.max_entries) == (4, 8, 3)
    places = btf.variables(opened.btf(), ".rodata")
    assert {name: (one.offset, one.size) for name, one in places.items()} == {"bias": (0, 4), "table": (8, 5)}
    opened.close()


def test_placeholders_are_replaced(opened: Object) -> None:
    """The function is called, the constant has its preset value, and the map is the object's map."""
    rodata = next(one for name, one in opened.maps.items() if name.endswith(".rodata"))
    rodata.preset(0, struct.pack("=I", 1))
    load_programs(opened)
    opened.maps["numbers"].update(struct.pack("=I", 1), struct.pack("=Q", 77))
    assert struct.unpack("=2Q", opened.programs["syscall__answer"].run(bytes(16))) == (42, 77)
    opened.close()


def test_a_program_that_writes_a_table_is_one_of_system_calls(tmp_path: Path) -> None:
    """Its section gives libbpf the type of programs that run on request."""
    path = tmp_path / "object.o"
    functions = {"write__answer": ANSWER, "fn_double": DOUBLE, **SIZES}
    path.write_bytes(object_file.build(SOURCE, functions, {"write__answer": "write__answer"}))
    opened = Object(str(path))
    assert list(opened.programs) == ["write__answer"]
    load_programs(opened)
    assert struct.unpack("=2Q", opened.programs["write__answer"].run(bytes(16)))[0] == 40
    opened.close()


def test_a_program_that_was_not_compiled_is_an_error() -> None:
    """The object is not built without it."""
    with pytest.raises(KeyError, match="on_answer"):
        object_file.build(SOURCE, {"fn_double": DOUBLE, **SIZES}, {"syscall__answer": "on_answer"})


def test_only_a_number_is_a_size() -> None:
    """A function that computes its result is refused."""
    assert object_file.constant(returning(-5)) == -5
    with pytest.raises(ValueError, match="does not return a constant"):
        object_file.constant(DOUBLE)


def test_the_second_half_of_a_wide_load_is_no_instruction() -> None:
    """Also if its bytes look like one."""
    wide = struct.pack("=BBhi", 0x18, 1, 0, 5) + struct.pack("=BBhi", 0x85, 0, 0, CALL)
    assert list(object_file.relocations(wide, SOURCE)) == []
