"""Random runs that once had a wrong verdict, by name: `make faults` repeats them with the catalogue."""

from __future__ import annotations

from tests.campaigns.faults.draw import Draw

KEPT: dict[str, Draw] = {
    # Ended by the signal, without results.
    "SIGHUP while the agent loads": Draw("SIGHUP", "load", 0.59, busy=False),
    # It passed, although the check for what the cell left behind had not run.
    "Ctrl-C while a cell closes": Draw("SIGINT", "close", 0.35, busy=True),
    # A restored machine is lost to the host. It was BOOT_FAIL, which blames a kernel that had booted before.
    "CPU stands still while the agent is deployed": Draw("CPU stands still", "deploy", 0.15, busy=True),
    # Ended with 3: junit.xml could not be written for a cell that fails beside its tests.
    "process left behind between passes": Draw("process left", "between", 0.24, busy=False),
    # Ended green: a skipped test must name an observed fact.
    "a skip without a reason": Draw("agent skips without a reason", "deploy", 0.23, busy=True),
    # The results said that the machine was booted; it had been restored.
    "CPU stands still at the end of the deployment": Draw("CPU stands still", "deploy", 0.84, busy=False),
}
