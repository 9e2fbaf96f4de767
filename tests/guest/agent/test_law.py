"""The filter law in a real kernel: the same calls have the same matches with filters on and off."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.guest.base import Guest
from tests.guest.agent.actions import Actions
from tests.guest.agent.daemon import Daemon, Match, rules, running

pytestmark = pytest.mark.guest

CALLS = 6000
LINE_S = 300.0
_HERE = Path(__file__).parent
_RULES = rules(
    prefix='open.file.path =~ "/w/churn/etc/**"',
    prefix_written='open.file.path =~ "/w/churn/srv/**" && open.flags & (O_WRONLY|O_RDWR) > 0',
    path='unlink.file.path == "/w/churn/etc/passwd"',
    path_open='open.file.path == "/w/churn/noise/one/plain"',
    name='open.file.name == "secret" && open.file.path =~ "/w/churn/**"',
    name_glob='chmod.file.path =~ "/w/churn/**/*.conf"',
    deep='open.file.path =~ "/w/churn/**/three/*.log"',
    moved_in='rename.file.destination.path =~ "/w/churn/etc/**"',
    moved_out='rename.file.path =~ "/w/churn/etc/**"',
    linked='link.file.path =~ "/w/churn/srv/**" || link.file.destination.path =~ "/w/churn/srv/**"',
    everything='fim.write.file.path =~ "/w/churn/var/log/**"',
    refused='open.retval < 0 && open.file.path =~ "/w/churn/etc/**"',
    user='process.uid == 1000 && mkdir.file.path =~ "/w/churn/**"',
    setuid='chmod.file.destination.mode & S_ISUID > 0 && chmod.file.path =~ "/w/churn/**"',
    attribute='setxattr.file.destination.name == "trusted.x" && setxattr.file.path =~ "/w/churn/n*/**"',
    not_here='truncate.file.path !~ "/w/churn/noise/**" && truncate.file.path =~ "/w/churn/**"',
    regular='utimes.file.path =~ r"^/w/churn/.*/[ab]\\.(conf|log)$"',
    closed='close.file.path == "/w/churn/etc/app/secret"',
)


def key(match: Match) -> tuple[str, str, str, int]:
    event = match["event"]
    return match["rule"], event["type"], event["path"], event["retval"]


def observed(guest: Guest, *program: str) -> tuple[Counter[tuple[str, str, str, int]], dict[str, int], str]:
    """The matches of one run of calls, the sums of the ledger, and the results of the calls."""
    guest.run(["rm", "-rf", "/w/churn"])
    mark = rules(mark='open.file.path =~ "/w/sentinel-*"')
    guest.put_bytes(mark, "/root/mark.yaml")
    with running(guest, _RULES, "--rules", "/root/policy.yaml", "/root/mark.yaml", program=program) as daemon:
        matches_so_far, results = churned(guest, daemon)
        matches = Counter(map(key, [*matches_so_far, *daemon.settled()]))
        status = daemon.status()
        names = ("seen", "approver_rejected", "discarded", "delivered", "matched")
        sums = {name: sum(row[name] for row in status["ledger"].values()) for name in names}
        sums["lost"] = status["lost"]
    return matches, sums, results


def churned(guest: Guest, daemon: Daemon) -> tuple[list[Match], str]:
    """The matches up to the last pause, and the last line. At each pause the agent reads all events."""
    channel = guest.open_channel(["python3", "/root/guest_churn.py", str(CALLS)])
    matches: list[Match] = []
    while (line := channel.readline(LINE_S)) == b"read":
        matches += daemon.settled()
        channel.write(b"\n")
    assert line, "the program ended early"
    assert channel.wait(LINE_S) == 0
    return matches, line.decode().strip()


def test_filters_hide_nothing(guest: Guest, actions: Actions, capsys: pytest.CaptureFixture[str]) -> None:
    """Approvers and discarders both drop events, nothing is lost, and the matches are equal."""
    for name in ("guest_churn.py", "guest_unfiltered.py"):
        guest.put(_HERE / name, f"/root/{name}")
    began = time.monotonic()
    with_filters, on, calls = observed(guest)
    without, off, same_calls = observed(guest, "/root/guest_unfiltered.py")
    seconds = time.monotonic() - began
    assert calls == same_calls
    assert with_filters == without
    assert len({rule for rule, *_ in without}) == _RULES.count(b'"id"')
    assert off["approver_rejected"] == off["discarded"] == 0
    assert on["approver_rejected"] > 0
    assert on["discarded"] > 0
    assert on["lost"] == off["lost"] == 0
    with capsys.disabled():
        sys.stdout.write(
            f"\nfilter law, calls and refusals {calls}, {without.total()} matches of {len(without)} kinds, "
            f"{seconds:.0f} s\n  on:  {on}\n  off: {off}\n"
        )
