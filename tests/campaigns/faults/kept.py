"""Random runs that once ended wrong, by name: `make faults` runs them with the faults of the catalogue."""

from __future__ import annotations

from tests.campaigns.faults.draw import Draw

KEPT: dict[str, Draw] = {
    # Ended by the signal, without results.
    "SIGHUP while the agent loads": Draw("SIGHUP", "load", 0.59, busy=False),
    # Ended green, although nobody had looked at what the cell left behind.
    "Ctrl-C while a cell closes": Draw("SIGINT", "close", 0.35, busy=True),
    # Was INFRA: the timeout of a file that is written to the guest was taken for trouble of the host.
    "CPU stands still while the agent is deployed": Draw("CPU stands still", "deploy", 0.15, busy=True),
    # Ended with 3: junit.xml could not be written for a cell that fails beside its tests.
    "process left behind between passes": Draw("process left", "between", 0.24, busy=False),
}
