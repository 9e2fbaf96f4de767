"""The files of `suites:` on this side: there before anything boots, and none from outside their folder."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError
from harness.plan.plan import Plan


def check(plan: Plan, base: Path) -> None:
    """Raise ConfigError for a file of a planned suite that is not there, or lies outside of `base`."""
    suites = {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}
    for suite in suites.values():
        for name in suite.files:
            path = base / name
            if not path.is_file():
                hint = f"build it first: it is named in suite {suite.name!r}, from {base}"
                raise ConfigError(f"{name}: no such file", hint=hint)
            if not path.resolve().is_relative_to(base.resolve()):
                raise ConfigError(f"{name}: a link leads it out of {base}")
