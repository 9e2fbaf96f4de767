"""The generator, built once a session from the sources that ship."""

from __future__ import annotations

from tests.agent.selftest.conftest import build_generator, generator

__all__ = ["build_generator", "generator"]
