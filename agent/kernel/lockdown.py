"""Detects kernel lockdown, under which the kernel refuses programs that read its memory, and reports it."""

from __future__ import annotations

from pathlib import Path

from agent.errors import KernelError, MinimumNotMetError

CONFIDENTIALITY = "confidentiality"

_LEVEL_FILE = Path("/sys/kernel/security/lockdown")
TEXT = (
    f"the kernel is locked down ({_LEVEL_FILE}: {CONFIDENTIALITY}): it refuses programs that read its memory"
)
REMEDY = f"boot without lockdown={CONFIDENTIALITY}; lockdown=integrity works"


def level() -> str:
    """Return the active level: `none`, `integrity` or `confidentiality`; empty if it cannot be read."""
    try:
        words = _LEVEL_FILE.read_text("ascii", "replace").split()
    except OSError:
        return ""
    return next((word.strip("[]") for word in words if word.startswith("[")), "")


def active() -> bool:
    """Return whether the kernel refuses programs that read its memory, as all of the agent's do."""
    return level() == CONFIDENTIALITY


def refusal(error: KernelError | None = None) -> MinimumNotMetError:
    """Return the error of a load under lockdown; `error` is the failure of the attempt, if one was made."""
    detail = f"{error.message}\n{error.detail}".strip() if error else ""
    return MinimumNotMetError(TEXT, hint=REMEDY, detail=detail)
