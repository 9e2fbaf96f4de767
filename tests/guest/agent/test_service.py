"""The agent as a service of a machine: signals, privileges, what it leaves and what it refuses."""

from __future__ import annotations

import sys

import pytest

from agent.service import privileges
from harness.guest.base import Guest
from tests.guest.agent.daemon import POLICY, rules, running
from tests.guest.agent.deeds import Deeds

pytestmark = pytest.mark.guest

_FIRST, _SECOND = (rules(**{name: 'open.file.path =~ "/w/**"'}) for name in ("first", "second"))
_WRONG = b'{"rules": [{"id": "wrong", "expression": "open.file.pth == 1"}]}'

_NONE = {"programs": 0, "maps": 0, "links": 0}


def numbers(matches: list[dict[str, object]]) -> list[tuple[str, int]]:
    """Rule and number of each file of `many`."""
    found = [(str(match["rule"]), str(match["event"]["path"])) for match in matches]  # type: ignore[index]
    return [(rule, int(path.rpartition("/")[2])) for rule, path in found if path.startswith("/w/many/")]


def test_reload(guest: Guest, deeds: Deeds) -> None:
    """Each event is judged by the old rules or by the new ones, once; wrong rules change nothing."""
    with running(guest, _FIRST) as daemon:
        busy = guest.open_channel(["python3", "/root/guest_deeds.py", "steadily"])
        matches = daemon.read(lambda line: '"path":"/w/many/20"' in line)
        matches += daemon.reload(_SECOND)
        assert "reloaded: 1 rules" in daemon.log[-1]
        matches += daemon.reload(_WRONG)
        assert "the old rules stay in force" in daemon.log[-1]
        matches += daemon.read(lambda line: "open.file.pth" in line)
        busy.write(b"enough\n")
        count = int(busy.readline(300) or 0)
        matches += daemon.settled()
        judged = numbers(matches)
        assert [number for _, number in judged] == list(range(count))
        names = [rule for rule, _ in judged]
        assert set(names) == {"first", "second"}
        assert names == sorted(names)
        assert daemon.status()["reloads"] == {"ok": 1, "failed": 1}


def test_sigterm_delivers_what_is_in_the_kernel(guest: Guest, deeds: Deeds) -> None:
    with running(guest, _FIRST) as daemon:
        daemon.signal("STOP")
        deeds.do("many", "0", "500")
        daemon.signal("TERM")
        daemon.signal("CONT")
        assert [number for _, number in numbers(daemon.rest())] == list(range(500))
        assert daemon.wait() == 0
    assert deeds.do("programs_left") == _NONE


def test_sigkill_leaves_nothing(guest: Guest, deeds: Deeds) -> None:
    assert deeds.do("programs_left") == _NONE
    with running(guest, _FIRST) as daemon:
        assert deeds.do("programs")["programs"] > 10
        daemon.signal("KILL")
        daemon.rest()
        assert daemon.wait() == 128 + 9
    assert deeds.do("programs_left") == _NONE


def test_privileges(guest: Guest, deeds: Deeds) -> None:
    """All threads have exactly what is documented, and no way to more; hooks and files still work."""
    release = guest.run(["uname", "-r"]).stdout.decode()
    wanted = f"{sum(1 << cap for cap in privileges.needed(release)):016x}"
    with running(guest, _FIRST, "--metrics-port", "9464") as daemon:
        found = deeds.do("threads", str(daemon.pid))
        assert len(found) >= 3
        for thread in found:
            assert thread["CapEff"] == thread["CapPrm"] == thread["CapBnd"] == wanted
            assert thread["CapInh"] == thread["CapAmb"] == f"{0:016x}"
            assert thread["NoNewPrivs"] == "1"
        deeds.do("many", "0", "3")
        assert len(numbers(daemon.settled())) == 3
        daemon.reload(_SECOND)
        assert "reloaded" in daemon.log[-1]


def test_memory(guest: Guest, deeds: Deeds, capsys: pytest.CaptureFixture[str]) -> None:
    """Stays below what the documentation says, whatever files there are."""
    everything = rules(all='open.file.path =~ "/w/sentinel-*" || open.retval < -4000')
    with running(guest, everything) as daemon:
        before = deeds.do("weight", str(daemon.pid))
        deeds.do("many", "0", "5000")
        daemon.settled()
        after = deeds.do("weight", str(daemon.pid))
        with capsys.disabled():
            sys.stdout.write(f"\nmemory in bytes: {before}, after 5000 files {after}\n")
        assert after["maps"] == before["maps"] < 32 << 20
        assert after["own"] < min(before["own"] + (8 << 20), 80 << 20)


def test_its_own_files_are_no_events(guest: Guest, deeds: Deeds) -> None:
    """Neither what it writes nor what it reads."""
    reads = rules(all='open.file.path =~ "/**"')
    with running(guest, reads, "--output", "/w/own.jsonl") as daemon:
        deeds.do("many", "0", "3")
        daemon.signal("HUP")
        daemon.read(lambda line: "reloaded" in line)
        daemon.signal("TERM")
        daemon.rest()
    lines = guest.run(["cat", "/w/own.jsonl"]).stdout.decode()
    assert lines.count("/w/many/") >= 3
    assert f'"pid":{daemon.pid},' not in lines.replace('"ancestors":[{', "")


@pytest.mark.parametrize("mode", ["666", "664", "646"])
def test_rules_that_others_can_write_are_refused(guest: Guest, mode: str) -> None:
    guest.put_bytes(_FIRST, POLICY)
    guest.run(["chmod", mode, POLICY])
    done = guest.run(["sh", "-c", f"cd /opt/fim && python3 -m agent run --rules {POLICY}"])
    assert done.status == 2
    assert b"other users can write it" in done.stderr
    assert b"Traceback" not in done.stderr
    guest.run(["rm", POLICY])


def test_default_rules_load_and_match(guest: Guest, deeds: Deeds) -> None:
    with running(guest, rules(mark='open.file.path =~ "/w/sentinel-*"'),
                 "--rules", POLICY, "/opt/fim/agent/policies/default.yaml") as daemon:  # fmt: skip
        guest.run(["sh", "-c", "echo x >>/etc/passwd; chmod u+s /tmp/x; touch /tmp/x; chmod 4755 /tmp/x"])
        guest.run(["sh", "-c", "cat /etc/passwd /etc/shadow; ls -R /usr/bin >/dev/null"])
        found = {(match["rule"], match["event"]["type"]) for match in daemon.settled()}
        assert found == {("credentials", "open"), ("setuid_in_scratch", "chmod")}
