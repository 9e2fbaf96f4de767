"""What a kernel complained of, out of its own log: which trouble, and the fingerprint that tells two apart.

A fingerprint is the first functions of a trace, without what differs from build to build: offsets, the
compiler's suffixes, the numbers in the names of BPF programs, and the frames by which every report comes
about. So the same crash on six kernels has one fingerprint, and six crashes have six.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.console.signatures import Signature, recognise, stamped

BEGIN, END = b"agent selftest: begin ", b"agent selftest: end "
FUNCTIONS = 3  # that make a fingerprint
REPORT_LINES = 80  # at most, from a complaint's first line on
SPLATS = 20  # kept of one scan; a kernel in a loop complains for ever

_FRAME = re.compile(rb"^(?:RIP: [0-9a-f]{4}:|pc : | +)(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_SUFFIX = re.compile(r"(?:\.(?:cold|isra|constprop|part|llvm|lto_priv)(?:\.\d+)?)+$")
_BPF = re.compile(r"^bpf_prog_[0-9a-f]{16}_")
_TRACE_END = re.compile(rb"^ *</TASK>|^---\[ end ")
# How a report comes about, and how every system call begins: nothing of them tells one crash from another.
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
    """One complaint: the line that says what it is, its fingerprint, and the test that ran ("" outside)."""

    kind: str
    line: str
    fingerprint: str = ""
    test: str = ""


@dataclass
class Scan:
    """What a log holds, and the tests whose whole time is in it."""

    found: list[Found] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)


def scan(lines: Iterable[bytes]) -> Scan:
    """Search a log; a line counts only with the kernel's own stamp in front."""
    kept = list(lines)
    result = Scan()
    test, quiet_until = "", 0
    for number, line in enumerate(kept):
        said = stamped(line) or b""
        if said.startswith(BEGIN):
            test = _text(said[len(BEGIN) :])
        elif said.startswith(END):
            result.whole |= {test} & {_text(said[len(END) :])}
            test = ""
        elif number >= quiet_until and len(result.found) < SPLATS and (signature := recognise(line)):
            report = _report(kept[number : number + REPORT_LINES])
            result.found.append(_found(signature, line, report, test))
            quiet_until = number + len(report)
    return result


def fingerprint(lines: Sequence[bytes]) -> str:
    """Of a complaint's lines: `kind: f < g < h`, the innermost function first; "" where nothing is one."""
    for number, line in enumerate(lines):
        if signature := recognise(line):
            return _fingerprint(signature, _report(lines[number:]))
    return ""


def _found(signature: Signature, line: bytes, report: Sequence[bytes], test: str) -> Found:
    return Found(signature.trouble.value, _text(line), _fingerprint(signature, report), test)


def _fingerprint(signature: Signature, report: Iterable[bytes]) -> str:
    names = dict.fromkeys(name for name in _functions(report) if not _COMMON.fullmatch(name))
    return f"{signature.trouble.value}: {' < '.join(itertools.islice(names, FUNCTIONS))}".rstrip(": ")


def _functions(report: Iterable[bytes]) -> Iterator[str]:
    """Frames that the unwinder vouches for: those with a question mark were only found on the stack."""
    for line in report:
        frame = _FRAME.match(stamped(line) or b"")
        if frame:
            yield _BPF.sub("bpf:", _SUFFIX.sub("", _text(frame["name"])))


def _report(lines: Sequence[bytes]) -> Sequence[bytes]:
    """The lines of one report: to the end of its trace, or to the next test's mark."""
    for number, line in enumerate(lines[1:], 1):
        said = stamped(line) or b""
        if said.startswith((BEGIN, END)):
            return lines[:number]
        if _TRACE_END.match(said):
            return lines[: number + 1]
    return lines


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").strip()
