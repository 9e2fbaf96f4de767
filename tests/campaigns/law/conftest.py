"""The generator, compiled once for each session from the sources in the package."""

from __future__ import annotations

from tests.agent.selftest.conftest import build_generator, generator

__all__ = ["build_generator", "generator"]
