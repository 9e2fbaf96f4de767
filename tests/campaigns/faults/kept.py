"""Random runs that once ended wrong, by name: `make faults` runs them with the faults of the catalogue."""

from __future__ import annotations

from tests.campaigns.faults.draw import Draw

KEPT: dict[str, Draw] = {}
