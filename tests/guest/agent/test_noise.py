"""The share of a day's events that the kernel drops with the default rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from harness.guest.base import Guest
from tests import ROOT
from tests.guest.agent import machines, workloads
from tests.guest.agent.daemon import Daemon, running

if TYPE_CHECKING:
    from harness.vm.connection import Connection

pytestmark = pytest.mark.guest

LEAST = 94.0  # per cent
_PROCESS_EVENTS = frozenset(("exec", "fork", "exit"))  # the context needs them: never stopped
_ASK = """
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/run/fim-agent/control.sock")
client.sendall(b"status\\n")
print(client.makefile().readline())
"""
_POLICY = (ROOT / "agent/policies/default.yaml").read_bytes()


class Share(NamedTuple):
    """Counts of one workload: `matched` a rule, and `stopped` in the kernel."""

    seen: int
    stopped: int
    discarded: int
    matched: int

    @property
    def of_all(self) -> float:
        """Per cent of all events, with matches."""
        return 100 * self.stopped / self.seen

    @property
    def of_noise(self) -> float:
        """Per cent of the events that no rule matched."""
        return 100 * self.stopped / (self.seen - self.matched)

    def minus(self, other: Share) -> Share:
        return Share(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


def ledger(guest: Guest) -> dict[str, dict[str, int]]:
    """Read the agent's counters, with a program that makes as few events as possible."""
    status: dict[str, Any] = json.loads(guest.run(["python3", "-ISc", _ASK]).stdout)
    assert status["lost"] == 0, {kind: row for kind, row in status["ledger"].items() if row["ring_full"]}
    found: dict[str, dict[str, int]] = status["ledger"]
    return found


def total(rows: dict[str, dict[str, int]], *, files_only: bool) -> Share:
    chosen = [row for kind, row in rows.items() if not files_only or kind not in _PROCESS_EVENTS]
    stopped = sum(row["approver_rejected"] + row["discarded"] for row in chosen)
    matched, discarded = (sum(row[name] for row in chosen) for name in ("matched", "discarded"))
    return Share(sum(row["seen"] for row in chosen), stopped, discarded, matched)


@pytest.fixture(scope="module", params=["5.10", "7.3"])
def daemon(
    request: pytest.FixtureRequest, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A larger machine, with the workloads' disk and an agent with the default rules."""
    disks = (workloads.image(),)
    folder = tmp_path_factory.mktemp("noise")
    with machines.booted(
        connection, request.param, folder, memory_mib=workloads.MEMORY_MIB, disks=disks
    ) as guest:
        workloads.mount(guest)
        with running(guest, _POLICY, "--output", "/dev/null") as started:
            yield started


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_share_of_noise(daemon: Daemon, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The events of reading the counters are measured and subtracted."""
    guest = daemon.guest
    asked, before = ledger(guest), ledger(guest)
    workloads.perform(guest, workloads.WORKLOADS[name])
    after = ledger(guest)
    lines = [f"\n{guest.run(['uname', '-r']).stdout.decode().strip()}: {name}"]
    for label, files_only in (("files", True), ("files and processes", False)):
        first, second, third = (total(rows, files_only=files_only) for rows in (asked, before, after))
        share = third.minus(second).minus(second.minus(first))
        lines.append(
            f"  {label}: seen {share.seen}, matched {share.matched}, stopped {share.stopped} (discarders "
            f"{share.discarded}), of all {share.of_all:.2f} %, of noise {share.of_noise:.2f} %"
        )
        if files_only:
            assert share.of_noise >= LEAST
    lines += _forwarded(before, after)
    with capsys.disabled():
        sys.stdout.write("\n".join(lines) + "\n")


def _forwarded(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> Iterator[str]:
    """Each event type with forwarded events that no rule matched."""
    for kind, row in after.items():
        idle = row["unmatched"] - before.get(kind, {}).get("unmatched", 0)
        if idle:
            yield f"    {kind}: {idle} forwarded for nothing"
