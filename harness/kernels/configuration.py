"""What a kernel's own configuration promises: a hook type that it promises and does not have is no SKIP.

kind          options that must be there, and what makes sure that it is switched on
"""

from __future__ import annotations

import re
from collections.abc import Mapping

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "lsm": ("CONFIG_BPF_LSM", "CONFIG_DEBUG_INFO_BTF", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    "fentry": ("CONFIG_DEBUG_INFO_BTF", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    "kprobe": ("CONFIG_KPROBES",),
    "kprobe_multi": ("CONFIG_FPROBE",),
    "tracepoint": ("CONFIG_FTRACE_SYSCALLS",),
}
_LSM_LIST = re.compile(r'^CONFIG_LSM="(.*)"$', re.MULTILINE)
_LSM_WORD = re.compile(r"(?:^|\s)lsm=(\S*)")


def promised(kind: str, config: str, cmdline: str = "") -> str:
    """The options of `config` by which a kernel promises programs of `kind`; "" if it does not."""
    options = OPTIONS.get(kind, ())
    lines = set(config.splitlines())
    if not options or not all(f"{option}=y" in lines for option in options):
        return ""
    if kind == "lsm" and "bpf" not in _active(config, cmdline):
        return ""
    return ", ".join(options)


def _active(config: str, cmdline: str) -> list[str]:
    """The security modules that this kernel starts: the last word of its command line counts."""
    words = _LSM_WORD.findall(cmdline) or _LSM_LIST.findall(config)
    return words[-1].split(",") if words else []
