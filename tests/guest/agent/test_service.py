"""The agent as a service: signals, privileges, memory, and leftovers in the kernel."""

from __future__ import annotations

import hashlib
import sys

import pytest

from agent.service import privileges
from harness.guest.base import Guest
from tests.guest.agent.actions import Actions
from tests.guest.agent.daemon import POLICY, rules, running

pytestmark = pytest.mark.guest

_FIRST, _SECOND = (rules(**{name: 'open.file.path =~ "/w/**"'}) for name in ("first", "second"))
_WRONG = b'{"rules": [{"id": "wrong", "expression": "open.file.pth == 1"}]}'

_NONE = {"programs": 0, "maps": 0, "links": 0}


def numbers(matches: list[dict[str, object]]) -> list[tuple[str, int]]:
    """Rule and number of the match of each file of `many`."""
    found = [(str(match["rule"]), str(match["event"]["path"])) for match in matches]  # type: ignore[index]
    return [(rule, int(path.rpartition("/")[2])) for rule, path in found if path.startswith("/w/many/")]


def test_reload(guest: Guest, actions: Actions) -> None:
    """Each event is evaluated once, by the old or the new rules; invalid rules change nothing."""
    with running(guest, _FIRST) as daemon:
        busy = guest.open_channel(["python3", "/root/guest_actions.py", "steadily"])
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


def test_heartbeats_prove_that_the_hooks_fire(guest: Guest, actions: Actions) -> None:
    """On a host where nothing matches; the last one says that the agent stops."""
    with running(guest, _FIRST, "--heartbeat", "2") as daemon:
        for _ in range(2):
            daemon.read(lambda line: '"agent.heartbeat"' in line)
        daemon.signal("TERM")
        daemon.rest()
        beats = [line["agent"] for line in daemon.own if line["rule"] == "agent.heartbeat"]
        assert [beat["number"] for beat in beats] == list(range(1, len(beats) + 1))
        assert [beat["blind"] for beat in beats] == [[]] * len(beats)
        assert [beat["stopping"] for beat in beats[-2:]] == [False, True]
        assert beats[1]["events"]["open"]["seen"] > beats[0]["events"]["open"]["seen"]
        (started,) = [line["agent"] for line in daemon.own if line["rule"] == "agent.rules"]
        assert started["digest"] == hashlib.sha256(_FIRST).hexdigest()


_PACKAGE = """
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p /root/p/DEBIAN /root/p/usr/bin
# The image has neither a database nor what dpkg wants to find, but does not need here.
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /usr/local/bin
touch /var/lib/dpkg/status
for tool in diff ldconfig start-stop-daemon; do
    command -v $tool >/dev/null || ln -s /bin/true /usr/local/bin/$tool
done
cd /root/p
echo tool >usr/bin/fimtool
md5sum usr/bin/fimtool >DEBIAN/md5sums
printf '%s\\n' 'Package: fimtool' "Version: $1" 'Architecture: all' 'Maintainer: n <n@n>' >DEBIAN/control
echo 'Description: tool' >>DEBIAN/control
dpkg-deb -b /root/p /root/p.deb && dpkg -i /root/p.deb
"""


def test_package_updates_are_explained_and_tampering_is_not(guest: Guest, actions: Actions) -> None:
    """With the real dpkg: the first installation, an upgrade, and then an edit by hand."""
    watched = rules(
        tool='fim.write.file.path =~ "/usr/bin/fimtool*"', mark='open.file.path =~ "/w/sentinel-*"'
    )
    with running(guest, watched) as daemon:
        for version in ("1.0", "2.0"):
            done = guest.run(["sh", "-ec", _PACKAGE, "sh", version])
            assert done.status == 0, done.stderr
            matches = [match for match in daemon.settled() if match["rule"] == "tool"]
            matches += daemon.read(lambda line: '"explained_by"' in line and '"rename"' in line)
            unmarked = [match["event"] for match in matches if "explained_by" not in match]
            assert unmarked == []
            assert {match["explained_by"] for match in matches} == {f"dpkg:fimtool {version}"}
            assert {match["process"]["package_manager"] for match in matches} == {"dpkg"}
        guest.run(["sh", "-c", "echo x >>/usr/bin/fimtool; chmod 4755 /usr/bin/fimtool"])
        unmarked = [match["event"] for match in daemon.settled() if "explained_by" not in match]
        assert [event["type"] for event in unmarked] == ["open", "chmod"]
        guest.run(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin dpkg --purge fimtool"])


def test_sigterm_delivers_what_is_in_the_kernel(guest: Guest, actions: Actions) -> None:
    with running(guest, _FIRST) as daemon:
        daemon.signal("STOP")
        actions.do("many", "0", "500")
        daemon.signal("TERM")
        daemon.signal("CONT")
        assert [number for _, number in numbers(daemon.rest())] == list(range(500))
        assert daemon.wait() == 0
    assert actions.do("programs_left") == _NONE


def test_sigkill_leaves_nothing(guest: Guest, actions: Actions) -> None:
    assert actions.do("programs_left") == _NONE
    with running(guest, _FIRST) as daemon:
        assert actions.do("programs")["programs"] > 10
        daemon.signal("KILL")
        daemon.rest()
        assert daemon.wait() == 128 + 9
    assert actions.do("programs_left") == _NONE


def test_privileges(guest: Guest, actions: Actions) -> None:
    """All threads have exactly the documented capabilities and gain no others; the agent still works."""
    release = guest.run(["uname", "-r"]).stdout.decode()
    wanted = f"{sum(1 << cap for cap in privileges.needed(release)):016x}"
    with running(guest, _FIRST, "--metrics-port", "9464") as daemon:
        found = actions.do("threads", str(daemon.pid))
        assert len(found) >= 3
        for thread in found:
            assert thread["CapEff"] == thread["CapPrm"] == thread["CapBnd"] == wanted
            assert thread["CapInh"] == thread["CapAmb"] == f"{0:016x}"
            assert thread["NoNewPrivs"] == "1"
        actions.do("many", "0", "3")
        assert len(numbers(daemon.settled())) == 3
        daemon.reload(_SECOND)
        assert "reloaded" in daemon.log[-1]


def test_it_starts_with_the_capabilities_of_the_unit(guest: Guest, actions: Actions) -> None:
    """As systemd starts it: nothing but those in the bounding set, and no new privileges."""
    release = guest.run(["uname", "-r"]).stdout.decode()
    wanted = privileges.names(privileges.needed(release))
    bounded = ",".join(("-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in wanted)))
    with running(guest, _FIRST, under=("setpriv", "--bounding-set", bounded, "--no-new-privs")) as daemon:
        actions.do("many", "0", "3")
        assert len(numbers(daemon.settled())) == 3
        daemon.reload(_SECOND)
        assert "reloaded" in daemon.log[-1]


def test_memory(guest: Guest, actions: Actions, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory stays below the documented limit, however many files are accessed."""
    everything = rules(all='open.file.path =~ "/w/sentinel-*" || open.retval < -4000')
    with running(guest, everything) as daemon:
        before = actions.do("weight", str(daemon.pid))
        actions.do("many", "0", "5000")
        daemon.settled()
        after = actions.do("weight", str(daemon.pid))
        with capsys.disabled():
            sys.stdout.write(f"\nmemory in bytes: {before}, after 5000 files {after}\n")
        assert after["maps"] == before["maps"] < 32 << 20
        assert after["own"] < min(before["own"] + (8 << 20), 80 << 20)


def test_its_own_files_are_no_events(guest: Guest, actions: Actions) -> None:
    """Neither its reads nor its writes are events."""
    reads = rules(all='open.file.path =~ "/**"')
    with running(guest, reads, "--output", "/w/own.jsonl") as daemon:
        actions.do("many", "0", "3")
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


def test_default_rules_load_and_match(guest: Guest, actions: Actions) -> None:
    with running(guest, rules(mark='open.file.path =~ "/w/sentinel-*"'),
                 "--rules", POLICY, "/opt/fim/agent/policies/default.yaml") as daemon:  # fmt: skip
        guest.run(["sh", "-c", "echo x >>/etc/passwd; chmod u+s /tmp/x; touch /tmp/x; chmod 4755 /tmp/x"])
        guest.run(["sh", "-c", "cat /etc/passwd /etc/shadow; ls -R /usr/bin >/dev/null"])
        found = {(match["rule"], match["event"]["type"]) for match in daemon.settled()}
        assert found == {("credentials", "open"), ("setuid_in_scratch", "chmod")}
