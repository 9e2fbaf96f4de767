"""Detects kernel lockdown, under which the kernel refuses many programs of the agent, and reports it."""

from __future__ import annotations

from pathlib import Path

from agent.errors import KernelError, MinimumNotMetError

CONFIDENTIALITY = "confidentiality"

_LEVEL_FILE = Path("/sys/kernel/security/lockdown")
TEXT = (
    f"the kernel is locked down ({_LEVEL_FILE}: {CONFIDENTIALITY}): it refuses kprobes, tracepoints and "
    "bpf_probe_read_kernel()"
)
REMEDY = (
    f"use --hookset auto on a kernel from 6.2 on, or boot without lockdown={CONFIDENTIALITY}; "
    "lockdown=integrity works"
)


def level() -> str:
    """Return the active level: `none`, `integrity` or `confidentiality`; empty if it cannot be read."""
    try:
        words = _LEVEL_FILE.read_text("ascii", "replace").split()
    except OSError:
        return ""
    return next((word.strip("[]") for word in words if word.startswith("[")), "")


def raise_level() -> None:
    """Raise the level to `confidentiality`, which lasts until the next boot. Raises OSError."""
    _LEVEL_FILE.write_text(CONFIDENTIALITY, "ascii")


def active() -> bool:
    """Return whether the kernel refuses kprobes, tracepoints and bpf_probe_read_kernel()."""
    return level() == CONFIDENTIALITY


def refusal(error: KernelError | None = None) -> MinimumNotMetError:
    """Return the error of a load under lockdown; `error` is the failure of the attempt, if one was made."""
    detail = f"{error.message}\n{error.detail}".strip() if error else ""
    return MinimumNotMetError(TEXT, hint=REMEDY, detail=detail)
