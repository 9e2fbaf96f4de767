"""Decides from a kernel's configuration which kinds of BPF programs must work on it.

A kind that the configuration promises and that does not work is a FAIL, not a SKIP.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "lsm": ("CONFIG_BPF_LSM", "CONFIG_DEBUG_INFO_BTF", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    "fentry": ("CONFIG_DEBUG_INFO_BTF", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    "kprobe": ("CONFIG_KPROBES",),
    "kprobe_multi": ("CONFIG_FPROBE", "CONFIG_HAVE_FTRACE_GRAPH_FUNC"),  # the latter: without losing returns
    "tracepoint": ("CONFIG_FTRACE_SYSCALLS",),
}
_LSM_LIST = re.compile(r'^CONFIG_LSM="(.*)"$', re.MULTILINE)
_REFUSED_BY_LOCKDOWN = ("kprobe", "tracepoint")
_LOCKDOWN = re.compile(r"(?:^|\s)lockdown=confidentiality(?:\s|$)")
_REFUSED_UNCOMPILED = ("kprobe", "kprobe_multi")  # their programs make calls and tail calls
_UNCOMPILED = "net.core.bpf_jit_enable=0"
_VERSION = re.compile(r"^# Linux/\S+ (\d+)\.(\d+)", re.MULTILINE)
_LSM_WORD = re.compile(r"(?:^|\s)lsm=(\S*)")


def promised(kind: str, config: str, cmdline: str = "", sysctl: Collection[str] = ()) -> str:
    """The options of `config` that promise programs of `kind`, as text; "" if they are not all set.

    Words of `cmdline` and values of `sysctl` (`NAME=VALUE`) can take a promise back.
    """
    options = OPTIONS.get(kind, ())
    if not options or not all(is_set(config, option) for option in options):
        return ""
    if kind == "lsm" and "bpf" not in _active(config, cmdline):
        return ""
    if kind in _REFUSED_BY_LOCKDOWN and _LOCKDOWN.search(cmdline):
        return ""
    if kind in _REFUSED_UNCOMPILED and _UNCOMPILED in sysctl:
        return ""
    return ", ".join(options)


def preempts(config: str) -> bool:
    """Return whether the kernel can preempt itself; it may still be booted so that it does not."""
    return is_set(config, "CONFIG_PREEMPTION")


def version(config: str) -> tuple[int, ...]:
    """The first two numbers of the kernel's version, from the head of `config`; empty if it has none."""
    found = _VERSION.search(config)
    return (int(found[1]), int(found[2])) if found else ()


def is_set(config: str, option: str) -> bool:
    """Return whether `config` sets an option to y."""
    return f"{option}=y" in config.splitlines()


def _active(config: str, cmdline: str) -> list[str]:
    """The security modules that this kernel starts: the last `lsm=` of its command line wins."""
    words = _LSM_WORD.findall(cmdline) or _LSM_LIST.findall(config)
    return words[-1].split(",") if words else []
