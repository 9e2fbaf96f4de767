"""Kernel lockdown, which refuses programs that read the kernel's memory: the cause of a load that fails."""

from __future__ import annotations

from pathlib import Path

from agent.errors import KernelError, MinimumNotMetError

CONFIDENTIALITY = "confidentiality"

_PLACE = Path("/sys/kernel/security/lockdown")


def level() -> str:
    """The active level, such as `none`, `integrity` or `confidentiality`; empty if it cannot be read."""
    try:
        words = _PLACE.read_text("ascii", "replace").split()
    except OSError:
        return ""
    return next((word.strip("[]") for word in words if word.startswith("[")), "")


def active() -> bool:
    """Whether programs may not read the kernel's memory, which all of ours do."""
    return level() == CONFIDENTIALITY


def refusal(error: KernelError | None = None) -> MinimumNotMetError:
    """The error of a load under lockdown; `error` is what failed, if anything was tried."""
    detail = f"{error.message}\n{error.detail}".strip() if error else ""
    return MinimumNotMetError(
        f"the kernel is locked down ({_PLACE}: {CONFIDENTIALITY}): it refuses programs that read its memory",
        hint=f"boot without lockdown={CONFIDENTIALITY}; lockdown=integrity is no obstacle",
        detail=detail,
    )
