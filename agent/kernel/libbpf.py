"""Calls libbpf 1.x through ctypes; no other module calls it.

Each wrapper raises `KernelError` with the failed action, the system's error text, and in `detail` everything
that libbpf and the verifier printed during the call.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from agent.errors import KernelError
from agent.kernel import steps
from agent.kernel.prototypes import INT, POINTER, PROTOTYPES, SIZE, STRINGS, U32
from agent.kernel.structures import (
    HandlerOptions,
    LoadOptions,
    MultiOptions,
    OpenOptions,
    ProgInfo,
    TestRunOptions,
)

_LIBRARY = "libbpf.so.1"
_MESSAGE_BYTES = 1 << 16
_INSTRUCTION_BYTES = 8
# A message about a map that cannot be bound is no failure: libbpf prints it for programs that load.
_PROCESSED = re.compile(r"processed (\d+) insns")
# They follow the cause of a rejection: 4 lines, and from 7.3 on one more for each function of the program.
_STATISTICS = re.compile(r"verification time |stack depth |subprog \d+ \(|processed \d+ insns")
_FAILED_PROGRAM = re.compile(r"prog '([^']+)': (?:BPF program load failed|failed to (?!bind map))")


class ProgramInfo(NamedTuple):
    """The kernel's counters of a loaded program; `insns` is None before 5.16, which has no such counter."""

    runs: int
    recursion_misses: int
    insns: int | None


# For each program on a trampoline libbpf would search all types of the kernel for the target's name.
# `Program.target` sets the type number instead. Others are here to be rewritten before they are loaded.
_KPROBE, _RAW_TRACEPOINT, _TRACING, _LSM = 2, 17, 26, 29  # enum bpf_prog_type
_HANDLED = {  # with enum bpf_attach_type
    "fentry": (_TRACING, 24),
    "fexit": (_TRACING, 25),
    "lsm": (_LSM, 27),
    "raw_tp": (_RAW_TRACEPOINT, 0),
    "kprobe.multi": (_KPROBE, 42),
    "kretprobe.multi": (_KPROBE, 42),
}
_ATTACHES = {
    "fentry": "bpf_program__attach_trace",
    "fexit": "bpf_program__attach_trace",
    "lsm": "bpf_program__attach_lsm",
}
_PREPARE = ctypes.CFUNCTYPE(INT, POINTER, ctypes.POINTER(LoadOptions), ctypes.c_long)
_targets: dict[int, int] = {}  # by the address of the program
_rewrites: dict[int, Callable[[bytes], bytes]] = {}  # likewise


def _prepare(program: int, options: Any, _cookie: int) -> int:
    """Rewrite the program, and set the target's type number; libbpf calls this just before it loads it."""
    steps.taken()
    if rewrite := _rewrites.get(program):
        size = _INSTRUCTION_BYTES * _lib().call("bpf_program__insn_cnt", program)
        place = _lib().call("bpf_program__insns", program)
        ctypes.memmove(place, rewrite(ctypes.string_at(place, size)), size)
    section, _, function = _lib().call("bpf_program__section_name", program).partition(b"/")
    if _HANDLED[section.decode()][0] not in (_TRACING, _LSM):
        return 0
    number = _targets.get(program)
    if number is None:
        attach = _lib().call("bpf_program__expected_attach_type", program)
        number = _lib().call("libbpf_find_vmlinux_btf_id", function, attach)
    if number < 0:
        return int(number)
    options.contents.attach_btf_id = number
    return 0


_handler = HandlerOptions(ctypes.sizeof(HandlerOptions))
_prepared = _PREPARE(_prepare)


@functools.cache
def _handle_sections() -> None:
    _handler.prepare = ctypes.cast(_prepared, POINTER)
    for section, (kind, attach) in _HANDLED.items():
        arguments = (f"{section}+".encode(), kind, attach, ctypes.byref(_handler))
        _checked(f"handle {section}", _lib().call("libbpf_register_prog_handler", *arguments))


_SAMPLE = ctypes.CFUNCTYPE(None, POINTER, INT, POINTER, U32)
_PRINTER = ctypes.CFUNCTYPE(INT, INT, POINTER, POINTER)


class _Library:
    """The loaded library, and the text that it printed since the last call of `printed`."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY, use_errno=True)
        except OSError as error:
            raise KernelError(f"cannot load {_LIBRARY}: {error}", hint="install libbpf1") from error
        self._libc = ctypes.CDLL(None)
        self._libc.vsnprintf.argtypes = (POINTER, SIZE, POINTER, POINTER)
        self._buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._printed: list[str] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        self._printer = _PRINTER(self._print)
        self.call("libbpf_set_print", self._printer)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call one function of `PROTOTYPES`."""
        return self.function(name)(*arguments)

    def function(self, name: str) -> Callable[..., Any]:
        """Return one function of `PROTOTYPES`."""
        function = self._functions.get(name)
        if function is None:
            function = getattr(self._library, name)
            function.restype, function.argtypes = PROTOTYPES[name]
            self._functions[name] = function
        return function

    def printed(self) -> str:
        """Return the text printed since the last call, and forget it."""
        text = "".join(self._printed)
        self._printed.clear()
        return text

    def _print(self, level: int, form: int, arguments: int) -> int:
        # On both architectures a va_list arrives as a pointer, which vsnprintf takes as it is.
        if level <= _INFO:
            self._libc.vsnprintf(self._buffer, _MESSAGE_BYTES, form, arguments)
            self._printed.append(self._buffer.value.decode("utf-8", "replace"))
        return 0


_INFO = 1  # enum libbpf_print_level: warn 0, info 1, debug 2
_loaded: list[_Library] = []


def _lib() -> _Library:
    if not _loaded:
        _loaded.append(_Library())
    return _loaded[0]


def _reason(code: int) -> str:
    return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"


def _failed(action: str, code: int) -> KernelError:
    return KernelError(f"{action}: {_reason(code)}", detail=_lib().printed())


def _checked(action: str, result: int) -> int:
    """Return a result. Raise KernelError if it is negative: libbpf from 1.0 on returns -errno."""
    if result < 0:
        raise _failed(action, -result)
    return result


def _pointer(action: str, result: int | None) -> int:
    if not result:
        raise _failed(action, ctypes.get_errno())
    return result


def failed_program(error: KernelError) -> str:
    """Return the program that libbpf names as the cause of a failed load; empty if it names none."""
    match = _FAILED_PROGRAM.search(error.detail)
    return match[1] if match else ""


def version() -> str:
    """Return the library's version, such as `v1.1`."""
    return str(_lib().call("libbpf_version_string").decode())


def ids(kind: str) -> frozenset[int]:
    """Return the ids of all programs, maps or links ("prog", "map", "link") of any process in this kernel."""
    known: set[int] = set()
    following = U32()
    while _lib().call(f"bpf_{kind}_get_next_id", following.value, ctypes.byref(following)) == 0:
        known.add(following.value)
    return frozenset(known)


class Link:
    """An attached program. `close` detaches it, and so does the end of this process."""

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer

    def close(self) -> None:
        """Detach. May be called again."""
        if self._pointer:
            _lib().call("bpf_link__destroy", self._pointer)
            self._pointer = None


class Program:
    """One program of an object."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer
        self.name: str = _lib().call("bpf_program__name", pointer).decode()
        self._log: ctypes.Array[ctypes.c_char] | None = None

    def choose(self, chosen: bool) -> None:
        """Choose whether `load` loads the program."""
        result = _lib().call("bpf_program__set_autoload", self._pointer, chosen)
        _checked(f"choose {self.name}", result)

    def target(self, number: int) -> None:
        """Attach a trampoline program to the function with this BTF type number; call it before the load."""
        _targets[self._pointer] = number

    def rewrite(self, rewrite: Callable[[bytes], bytes]) -> None:
        """Have the load rewrite the instructions, functions included; not for all types: see `_HANDLED`."""
        _rewrites[self._pointer] = rewrite

    def forget(self) -> None:
        """Forget the target and the rewriting, because another program may get the same address."""
        _targets.pop(self._pointer, None)
        _rewrites.pop(self._pointer, None)

    def keep_log(self, size: int, level: int = 4) -> None:
        """Keep the verifier's log: level 4 has the verdict and statistics, 1 and 2 also have each step."""
        self._log = ctypes.create_string_buffer(size)
        _checked("set_log_buf", _lib().call("bpf_program__set_log_buf", self._pointer, self._log, size))
        _checked("set_log_level", _lib().call("bpf_program__set_log_level", self._pointer, level))

    def log(self) -> str:
        """Return the verifier's log; empty without `keep_log`."""
        return self._log.value.decode("utf-8", "replace") if self._log else ""

    def rejection(self) -> str:
        """Return the verifier's log without the statistics at its end, so that it ends with the cause."""
        lines = self.log().rstrip().splitlines()
        while lines and _STATISTICS.match(lines[-1]):
            lines.pop()
        return "\n".join(lines)

    def processed(self) -> int:
        """Return the instructions that the verifier processed, by its log; 0 without `keep_log`."""
        found = _PROCESSED.search(self.log())
        return int(found[1]) if found else 0

    def fd(self) -> int:
        """Return the descriptor of the loaded program."""
        return _checked(f"{self.name} is not loaded", _lib().call("bpf_program__fd", self._pointer))

    def attach(self) -> Link:
        """Attach to the target of the program's section, or to that of `target`."""
        kind, _, target = _lib().call("bpf_program__section_name", self._pointer).decode().partition("/")
        if kind == "raw_tp":
            return self._attached(target, "bpf_program__attach_raw_tracepoint", target.encode())
        return self._attached(self.name, _ATTACHES.get(kind, "bpf_program__attach"))

    def attach_kprobe(self, function: str, at_return: bool) -> Link:
        """Attach to a kernel function's entry or return."""
        return self._attached(function, "bpf_program__attach_kprobe", at_return, function.encode())

    def attach_tracepoint(self, group: str, name: str) -> Link:
        """Attach to an event of tracefs, dynamic ones included."""
        return self._attached(
            f"{group}:{name}", "bpf_program__attach_tracepoint", group.encode(), name.encode()
        )

    def attach_kprobe_multi(self, function: str, at_return: bool) -> Link:
        """Attach through fprobe, by name: for a pattern libbpf would read all of kallsyms."""
        names = (STRINGS * 1)(function.encode())
        options = MultiOptions(ctypes.sizeof(MultiOptions), names, None, None, len(names), at_return)
        call = "bpf_program__attach_kprobe_multi_opts"
        return self._attached(function, call, None, ctypes.byref(options))

    def info(self) -> ProgramInfo:
        """Return the kernel's counters. Runs are counted only while a `RunCounting` is open."""
        info, size = ProgInfo(), U32(ctypes.sizeof(ProgInfo))
        result = _lib().call("bpf_obj_get_info_by_fd", self.fd(), ctypes.byref(info), ctypes.byref(size))
        _checked(f"read the counters of {self.name}", result)
        return ProgramInfo(info.run_cnt, info.recursion_misses, info.verified_insns or None)

    def run(self, context: bytes) -> bytes:
        """Run a program of type syscall once, and return the context as the program left it."""
        data = ctypes.create_string_buffer(context, len(context))
        options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), ctx_size_in=len(context))
        options.ctx_in = ctypes.addressof(data)
        result = _lib().call("bpf_prog_test_run_opts", self.fd(), ctypes.byref(options))
        _checked(f"run {self.name}", result)
        return data.raw

    def _attached(self, target: str, function: str, *arguments: Any) -> Link:
        _lib().printed()
        result = _lib().call(function, self._pointer, *arguments)
        return Link(_pointer(f"attach {self.name} to {target}", result))


_SECTION = ".data."  # begins the name of an array in a section of its own: FIM_CELLS of bpf/maps.h


class Map:
    """One map of an object. Keys and values are bytes of exactly the map's sizes."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer
        name: str = _lib().call("bpf_map__name", pointer).decode()
        self.name = name.removeprefix(_SECTION)
        self.key_size: int = _lib().call("bpf_map__key_size", pointer)
        self.value_size: int = _lib().call("bpf_map__value_size", pointer)

    @property
    def max_entries(self) -> int:
        """The capacity: bytes of a ring buffer, entries of any other map."""
        return int(_lib().call("bpf_map__max_entries", self._pointer))

    def resize(self, max_entries: int) -> None:
        """Set the capacity; call it before the load."""
        result = _lib().call("bpf_map__set_max_entries", self._pointer, max_entries)
        _checked(f"resize {self.name}", result)

    def skip(self) -> None:
        """Do not create the map."""
        _checked(f"skip {self.name}", _lib().call("bpf_map__set_autocreate", self._pointer, False))

    def fd(self) -> int:
        """Return the descriptor of the created map."""
        return _checked(f"{self.name} is not created", _lib().call("bpf_map__fd", self._pointer))

    def preset(self, offset: int, data: bytes) -> None:
        """Write into the initial value of a section's map, such as `.rodata`; call it before the load."""
        size = SIZE()
        start = _lib().call("bpf_map__initial_value", self._pointer, ctypes.byref(size))
        if offset + len(data) > size.value:
            raise ValueError(f"{self.name} has {size.value} bytes, not {offset + len(data)}")
        ctypes.memmove(_pointer(f"preset {self.name}", start) + offset, data, len(data))

    def memory(self) -> mmap.mmap:
        """Map the values of an array with BPF_F_MMAPABLE into memory, each at a multiple of 8 bytes."""
        size = (self.value_size + 7 & ~7) * self.max_entries
        return mmap.mmap(self.fd(), size + mmap.PAGESIZE - 1 & ~(mmap.PAGESIZE - 1))

    def update(self, key: bytes, value: bytes) -> None:
        """Insert or replace an entry."""
        _checked(f"update {self.name}", _lib().call("bpf_map_update_elem", self.fd(), key, value, 0))

    def push(self, values: Iterable[bytes]) -> None:
        """Push many values onto a stack or queue, which has no keys."""
        update, fd = _lib().function("bpf_map_update_elem"), self.fd()
        for value in values:
            if (result := update(fd, None, value, 0)) < 0:
                raise _failed(f"push to {self.name}", -result)

    def lookup(self, key: bytes, value_size: int = 0) -> bytes | None:
        """Return the value, or None. A per-CPU map has a value for each CPU: pass `value_size`."""
        value = ctypes.create_string_buffer(value_size or self.value_size)
        result = _lib().call("bpf_map_lookup_elem", self.fd(), key, value)
        if result < 0 and -result == errno.ENOENT:
            return None
        _checked(f"look up in {self.name}", result)
        return value.raw

    def delete(self, key: bytes) -> bool:
        """Remove a key; return False if the map does not have it."""
        result = _lib().call("bpf_map_delete_elem", self.fd(), key)
        if result < 0 and -result == errno.ENOENT:
            return False
        _checked(f"remove a key of {self.name}", result)
        return True

    def keys(self) -> Iterator[bytes]:
        """Yield all keys; keys that change meanwhile may or may not be among them."""
        key, following = None, ctypes.create_string_buffer(self.key_size)
        while _lib().call("bpf_map_get_next_key", self.fd(), key, following) == 0:
            key = following.raw
            yield key


class PerfBuffers:
    """One perf buffer for each CPU; `take` is called with each record, in the order of its CPU."""

    def __init__(self, events: Map, pages: int, take: Callable[[bytes], None]) -> None:
        self._take = _SAMPLE(lambda _context, _cpu, data, size: take(ctypes.string_at(data, size)))
        buffers = _lib().call("perf_buffer__new", events.fd(), pages, self._take, None, None, None)
        self._pointer: int | None = _pointer("create perf buffers", buffers)

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""
        return int(_lib().call("perf_buffer__epoll_fd", self._pointer))

    def consume(self) -> None:
        """Call `take` with each record that is waiting."""
        _checked("read perf buffers", _lib().call("perf_buffer__consume", self._pointer))

    def close(self) -> None:
        """Free the buffers. May be called again."""
        if self._pointer:
            _lib().call("perf_buffer__free", self._pointer)
            self._pointer = None


class Btf:
    """BTF type information of an object or of a kernel. Types have numbers, names have offsets."""

    def __init__(self, pointer: int, owned: bool = False) -> None:
        self._pointer: int | None = pointer
        self._owned = owned

    @classmethod
    def parse(cls, path: str) -> Btf:
        """Read a BTF blob or an ELF file; the BTF of a kernel takes about 25 ms."""
        pointer = _lib().call("btf__parse", path.encode(), None)
        return cls(_pointer(f"read BTF from {path}", pointer), owned=True)

    def find(self, name: str, kind: int) -> int | None:
        """Return the number of the type with this name and kind, or None."""
        number: int = _lib().call("btf__find_by_name_kind", self._pointer, name.encode(), kind)
        return number if number > 0 else None

    def words(self, number: int, count: int) -> tuple[int, ...]:
        """Return the first 32-bit words of a type: name, info, size or type, then those of its kind."""
        pointer = _pointer(f"BTF type {number}", _lib().call("btf__type_by_id", self._pointer, number))
        return tuple((U32 * count).from_address(pointer))

    def name(self, offset: int) -> str:
        """Return the name at an offset."""
        text: bytes = _lib().call("btf__str_by_offset", self._pointer, offset)
        return text.decode()

    def close(self) -> None:
        """Free the BTF that `parse` read. May be called again."""
        if self._pointer and self._owned:
            _lib().call("btf__free", self._pointer)
        self._pointer = None


class Object:
    """An open BPF object file. Nothing is in the kernel before `load`."""

    def __init__(self, path: str, external_btf: str | None = None) -> None:
        options = OpenOptions(sz=ctypes.sizeof(OpenOptions))
        options.btf_custom_path = external_btf.encode() if external_btf else None
        _lib().printed()
        _handle_sections()
        opened = _lib().call("bpf_object__open_file", path.encode(), ctypes.byref(options))
        self._pointer: int | None = _pointer(f"open {path}", opened)
        self.programs = {
            program.name: program for program in map(Program, self._each("bpf_object__next_program"))
        }
        self.maps = {bpf_map.name: bpf_map for bpf_map in map(Map, self._each("bpf_object__next_map"))}

    def btf(self) -> Btf:
        """Return the object's own BTF, valid until `close`."""
        pointer = _lib().call("bpf_object__btf", self._pointer)
        return Btf(_pointer("read the BTF of the object", pointer))

    def load(self) -> None:
        """Create the maps and load the chosen programs; if one fails, none is loaded."""
        _lib().printed()
        _checked("load the object", _lib().call("bpf_object__load", self._pointer))

    def close(self) -> None:
        """Free the object, and its programs and maps unless something else uses them. May be called again."""
        if self._pointer:
            _lib().call("bpf_object__close", self._pointer)
            self._pointer = None
            for program in self.programs.values():
                program.forget()

    def _each(self, function: str) -> Iterator[int]:
        pointer: int | None = None
        while pointer := _lib().call(function, self._pointer, pointer):
            yield pointer


class RunCounting:
    """While this is open the kernel counts and times each program's runs, which costs a little."""

    def __init__(self) -> None:
        self._fd = _checked("count the programs' runs", _lib().call("bpf_enable_stats", 0))

    def close(self) -> None:
        """Stop counting."""
        os.close(self._fd)
