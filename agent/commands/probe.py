"""`agent probe`: load, attach and trigger each kind of hook on this kernel, and print the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.kernel.capabilities import Capability

LOG_LINES = 12  # shown of a kernel's message; the end of a verifier log has the reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--again", action="store_true", help="probe again, even if the result since the last boot is cached"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the tables and return 0, whatever this kernel supports."""
    from agent.kernel.bcc import backend
    from agent.kernel.capabilities import cached, observe
    from agent.kernel.loader import object_path

    if arguments.again:
        backend.forget()
    found = probed(lambda: (observe if arguments.again else cached)(object_path()))
    sys.stdout.writelines(f"{line}\n" for line in table(found))
    states = {kind: capability.state for kind, capability in found.items()}
    sys.stdout.writelines(f"{line}\n" for line in hook_sets(states))
    return 0


def probed(observe: Callable[[], dict[str, Capability]]) -> dict[str, Capability]:
    """Return the observed capabilities, and whether bcc can compile programs on this host.

    On a kernel without type information, where nothing can be observed, only the latter. Raises KernelError
    if bcc is not installed there.
    """
    from agent.errors import KernelError
    from agent.hooks import sets
    from agent.kernel.bcc import backend

    compiled = backend.capability()
    try:
        return observe() | {sets.BCC: compiled}
    except KernelError:
        if compiled.state == backend.ABSENT:
            raise
        return {sets.BCC: compiled}


def table(found: Mapping[str, Capability]) -> Iterator[str]:
    """Yield each kind with its state and remedy, the causes on this host, then the kernel's messages."""
    from agent.kernel import causes
    from agent.kernel.capabilities import LOSSY, remedy
    from agent.kernel.choose import FIRES

    for kind, capability in found.items():
        yield f"{kind:<14} {capability.state:<12} {remedy(kind, capability)}".rstrip()
    failed = [kind for kind, capability in found.items() if capability.state not in (FIRES, LOSSY)]
    if present := causes.found(failed):
        yield ""
        yield from (f"{cause.text}: {cause.remedy}" for cause in present)
    for kind, capability in found.items():
        if capability.state != FIRES and capability.reason:
            yield ""
            yield f"{kind}:"
            yield from (f"    {line}" for line in capability.reason.strip().splitlines()[-LOG_LINES:])


def hook_sets(states: Mapping[str, str]) -> Iterator[str]:
    """Yield what each hook set sees here, from the kinds that fire and the functions of this kernel."""
    from agent.hooks import coverage, needs, sets
    from agent.kernel import btf
    from agent.kernel.choose import Chooser, skips
    from agent.kernel.functions import Functions

    typed = Path(btf.KERNEL).is_file()
    functions = Functions(typed)
    for name in sets.HOOKSETS:
        here = states if name != sets.BCC else dict.fromkeys(("kprobe", "kretprobe"), states[name])
        plan = Chooser(name, here, functions).plan(needs.EVENTS)
        levels = coverage.levels(plan.kinds, skips(here))
        limits = coverage.limits(plan.kinds, skips(here))
        yield ""
        yield f"hook set {name}:"
        yield from (f"    {line}" for line in coverage.lines(levels, limits))
