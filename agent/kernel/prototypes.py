"""Lists the libbpf functions that the agent calls, with the types of their results and arguments."""

from __future__ import annotations

import ctypes
from typing import Any

STRINGS = ctypes.c_char_p
POINTER = ctypes.c_void_p
INT = ctypes.c_int
U32 = ctypes.c_uint32
SIZE = ctypes.c_size_t

# name -> (result, arguments). ctypes returns a pointer as an integer, NULL as None.
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_version_string": (STRINGS, ()),
    "libbpf_set_print": (POINTER, (POINTER,)),
    "bpf_object__open_file": (POINTER, (STRINGS, POINTER)),
    "bpf_object__load": (INT, (POINTER,)),
    "bpf_object__close": (None, (POINTER,)),
    "bpf_object__btf": (POINTER, (POINTER,)),
    "bpf_object__next_program": (POINTER, (POINTER, POINTER)),
    "bpf_object__next_map": (POINTER, (POINTER, POINTER)),
    "bpf_program__name": (STRINGS, (POINTER,)),
    "bpf_program__fd": (INT, (POINTER,)),
    "bpf_program__set_autoload": (INT, (POINTER, ctypes.c_bool)),
    "bpf_program__set_log_buf": (INT, (POINTER, POINTER, SIZE)),
    "bpf_program__set_log_level": (INT, (POINTER, U32)),
    "bpf_program__insns": (POINTER, (POINTER,)),
    "bpf_program__insn_cnt": (SIZE, (POINTER,)),
    "bpf_program__attach": (POINTER, (POINTER,)),
    "bpf_program__attach_raw_tracepoint": (POINTER, (POINTER, STRINGS)),
    "bpf_program__attach_kprobe": (POINTER, (POINTER, ctypes.c_bool, STRINGS)),
    "bpf_program__attach_tracepoint": (POINTER, (POINTER, STRINGS, STRINGS)),
    "bpf_program__attach_kprobe_multi_opts": (POINTER, (POINTER, STRINGS, POINTER)),
    "perf_buffer__new": (POINTER, (INT, SIZE, POINTER, POINTER, POINTER, POINTER)),
    "perf_buffer__free": (None, (POINTER,)),
    "perf_buffer__consume": (INT, (POINTER,)),
    "perf_buffer__poll": (INT, (POINTER, INT)),
    "perf_buffer__epoll_fd": (INT, (POINTER,)),
    "bpf_link__destroy": (INT, (POINTER,)),
    "bpf_map__name": (STRINGS, (POINTER,)),
    "bpf_map__fd": (INT, (POINTER,)),
    "bpf_map__key_size": (U32, (POINTER,)),
    "bpf_map__value_size": (U32, (POINTER,)),
    "bpf_map__max_entries": (U32, (POINTER,)),
    "bpf_map__set_max_entries": (INT, (POINTER, U32)),
    "bpf_map__set_autocreate": (INT, (POINTER, ctypes.c_bool)),
    "bpf_map__initial_value": (POINTER, (POINTER, ctypes.POINTER(SIZE))),
    "bpf_map_update_elem": (INT, (INT, POINTER, POINTER, ctypes.c_uint64)),
    "bpf_map_lookup_elem": (INT, (INT, POINTER, POINTER)),
    "bpf_map_delete_elem": (INT, (INT, POINTER)),
    "bpf_map_get_next_key": (INT, (INT, POINTER, POINTER)),
    "bpf_map_lookup_batch": (INT, (INT, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER)),
    "bpf_obj_get_info_by_fd": (INT, (INT, POINTER, ctypes.POINTER(U32))),
    "bpf_prog_get_next_id": (INT, (U32, ctypes.POINTER(U32))),
    "bpf_map_get_next_id": (INT, (U32, ctypes.POINTER(U32))),
    "bpf_link_get_next_id": (INT, (U32, ctypes.POINTER(U32))),
    "bpf_enable_stats": (INT, (INT,)),
    "bpf_prog_test_run_opts": (INT, (INT, POINTER)),
    "bpf_program__section_name": (STRINGS, (POINTER,)),
    "bpf_program__expected_attach_type": (INT, (POINTER,)),
    "bpf_program__attach_trace": (POINTER, (POINTER,)),
    "bpf_program__attach_lsm": (POINTER, (POINTER,)),
    "libbpf_register_prog_handler": (INT, (STRINGS, INT, INT, POINTER)),
    "libbpf_find_vmlinux_btf_id": (INT, (STRINGS, INT)),
    "btf__parse": (POINTER, (STRINGS, POINTER)),
    "btf__free": (None, (POINTER,)),
    "btf__find_by_name_kind": (ctypes.c_int32, (POINTER, STRINGS, U32)),
    "btf__type_by_id": (POINTER, (POINTER, U32)),
    "btf__str_by_offset": (STRINGS, (POINTER, U32)),
}
