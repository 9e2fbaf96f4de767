"""Extracts complaints (splats) from a kernel log: the kind of trouble, and a fingerprint that identifies it.

A fingerprint is the innermost functions of the trace, without parts that differ between builds (offsets,
suffixes of the compiler, tags in the names of BPF programs) and without frames that every report has. So the
same crash on six kernels has one fingerprint, and six different crashes have six.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.console.signatures import Signature, Trouble, plain, recognise, stamped

BEGIN, END = b"agent selftest: begin ", b"agent selftest: end "
FUNCTIONS = 3  # of a fingerprint
REPORT_LINES = 80  # the most that belong to one complaint

_FRAME = re.compile(rb"^(?:RIP: [0-9a-f]{4}:|pc : | +)(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_SUFFIX = re.compile(r"(?:\.(?:cold|isra|constprop|part|llvm|lto_priv)(?:\.\d+)?)+$")
_BPF = re.compile(r"^bpf_prog_[0-9a-f]{16}_")
_TRACE_END = re.compile(rb"^ *</TASK>|^---\[ end ")
# On the console, without a time stamp: the kernel printed more than the console took.
_DROPPED = re.compile(rb"^\*\* \d+ printk messages dropped \*\*")
_HEAD = re.compile(rb"^-+\[ cut here \]-+|^={20,}\s*$")  # the line above a report; some have it below as well
# One report of these has several lines that are recognised.
_PROLONGED = frozenset({Trouble.OOPS, Trouble.OUT_OF_MEMORY, Trouble.RCU_STALL, Trouble.NO_ROOT})
# Frames of the reporting itself and of every system call: they do not identify a crash.
_COMMON = re.compile(
    r"^(?:_?dump_stack\w*|show_stack\w*|v?panic|_?printk|__warn\w*|warn_slowpath\w*|report_bug|handle_bug|die|"
    r"oops_\w+|page_fault_oops|no_context|bad_area\w*|do_user_addr_fault|do_trap|do_error_trap|(?:asm_)?exc_\w+|"
    r"(?:__|asm_)*sysvec_\w+|asm_\w+|__?hrtimer\w*|hrtimer_interrupt|watchdog\w*|panic_on_\w+|rcu_\w+|"
    r"update_process_times|tick_\w+|print_\w+|kasan_\w+|__asan_\w+|check_memory_region|__schedule|schedule|"
    r"dump_header|out_of_memory|oom_kill_\w+|lockdep_\w+|__lock_acquire\w*|lock_acquire\w*|do_syscall_64|"
    r"(?:do_)?el0t?_\w+|invoke_syscall|entry_SYSCALL\w*|ret_from_fork\w*|x64_sys_call)$"
)


@dataclass(frozen=True)
class Found:
    """One complaint: its first line and its fingerprint."""

    kind: str
    line: str
    fingerprint: str = ""


@dataclass
class Scan:
    """The complaints of a log, and the tests whose begin and end marks are both in it."""

    found: list[Found] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)


def scan(lines: Iterable[bytes]) -> Scan:
    """Search a log. A line counts only if it begins with the kernel's time stamp.

    Lines that the console lost count as a complaint: they may have been one.
    """
    log = list(lines)
    result = Scan()
    test, report_end = "", 0
    for number, line in enumerate(log):
        message = stamped(line) or b""
        if message.startswith(BEGIN):
            test = _text(message[len(BEGIN) :])
        elif message.startswith(END):
            result.whole |= {test} & {_text(message[len(END) :])}
            test = ""
        elif _DROPPED.match(line):
            result.found.append(Found("incomplete log", _text(line)))
        elif number >= report_end and (signature := recognise(line)):
            report = _report(signature, log[number : number + REPORT_LINES])
            found = Found(signature.trouble.value, _text(plain(line)), _fingerprint(signature, report))
            result.found.append(found)
            report_end = number + len(report)
    return result


def fingerprint(lines: Sequence[bytes]) -> str:
    """The fingerprint of the first complaint in `lines`: `kind: f < g < h`, innermost function first."""
    for number, line in enumerate(lines):
        if signature := recognise(line):
            return _fingerprint(signature, _report(signature, lines[number:]))
    return ""


def _fingerprint(signature: Signature, report: Iterable[bytes]) -> str:
    names = dict.fromkeys(name for name in _functions(report) if not _COMMON.fullmatch(name))
    return f"{signature.trouble.value}: {' < '.join(itertools.islice(names, FUNCTIONS))}".rstrip(": ")


def _functions(report: Iterable[bytes]) -> Iterator[str]:
    """The reliable frames; the unwinder marks an address that was only found on the stack with `?`."""
    for line in report:
        frame = _FRAME.match(stamped(line) or b"")
        if frame:
            yield _BPF.sub("bpf:", _SUFFIX.sub("", _text(frame["name"])))


def _report(first: Signature, lines: Sequence[bytes]) -> Sequence[bytes]:
    """The lines of one report: up to the end of its trace, to the next report, or to the next mark of a test.

    Not every report has an end. One that is allowed must not hide another one that comes soon after it.
    """
    for number, line in enumerate(lines[1:], 1):
        message = stamped(line) or b""
        if message.startswith((BEGIN, END)) or _HEAD.match(message) or _begins_another(first, line):
            return lines[:number]
        if _TRACE_END.match(message):
            return lines[: number + 1]
    return lines


def _begins_another(first: Signature, line: bytes) -> bool:
    """Whether the line begins another report. A panic does not: it ends the report before it."""
    found = recognise(line)
    if found is None or found.fatal:
        return False
    goes_on = found.trouble is first.trouble and found.trouble in _PROLONGED
    return not goes_on or (stamped(line) or b"").startswith(b"BUG: ")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").strip()
