"""Rewrites programs so that they read the kernel's memory by bpf_rdonly_cast(), as bpf/read.h describes.

They are in an object of their own. Each of its reads calls `MARK`, which becomes a call of the kernel's
bpf_rdonly_cast(). Instructions keep their number and size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

OBJECT = "fim-casts.bpf.o"  # it has no programs at kprobes, which a kernel that needs it refuses
CAST = "bpf_rdonly_cast"
MARK = 0x46494D52

_BYTES = 8  # of an instruction: operation, registers, offset (16 bits), immediate value (32 bits)
_VALUE = struct.Struct("=I")
_VALUE_AT = 4
_CALL = 0x85  # include/uapi/linux/bpf.h
_OF_KERNEL = 0x20 if struct.pack("=H", 1)[0] else 0x02  # BPF_PSEUDO_KFUNC_CALL in the source register

# libbpf 1.1 to 1.5 tries bpf_probe_read_kernel(), concludes from a refusal that the kernel is older than 5.5,
# and replaces the helpers by those of that time. These programs use them only for the user's memory, which
# is never refused.
_OF_USER = {4: 112, 45: 114}  # bpf_probe_read: bpf_probe_read_user, bpf_probe_read_str: .._user_str


def with_casts(path: Path) -> Path:
    """Return the path of the object with casts, which lies beside the other one."""
    return path.with_name(OBJECT)


def by_cast(number: int) -> Callable[[bytes], bytes]:
    """Return the function that rewrites a program's instructions; `number` is the BTF type of CAST."""

    def rewrite(code: bytes) -> bytes:
        result = bytearray(code)
        for at in _with_value(code, MARK):
            if code[at] == _CALL:
                result[at + 1] = _OF_KERNEL
                _VALUE.pack_into(result, at + _VALUE_AT, number)
        for old, new in _OF_USER.items():
            for at in _with_value(code, old):
                if code[at] == _CALL and not code[at + 1]:
                    _VALUE.pack_into(result, at + _VALUE_AT, new)
        return bytes(result)

    return rewrite


def _with_value(code: bytes, value: int) -> Iterator[int]:
    """Yield the places of the instructions with this immediate value."""
    wanted = _VALUE.pack(value)
    at = code.find(wanted)
    while at >= 0:
        if at % _BYTES == _VALUE_AT:
            yield at - _VALUE_AT
        at = code.find(wanted, at + 1)
