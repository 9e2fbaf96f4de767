"""Events of every type have the kernel's result, and the correct path in difficult places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events.model import EventType
from agent.sinks.render import unescape
from harness.guest.base import Guest
from tests.guest.agent import guest_actions
from tests.guest.agent.actions import QUICK, Actions
from tests.guest.agent.daemon import Daemon, Match, rules, running

pytestmark = pytest.mark.guest

_MOUNTS = (EventType.MOUNT, EventType.UMOUNT)
_PROCESSES = (EventType.EXEC, EventType.FORK, EventType.EXIT)
_REFUSED = {  # errno of each call that a user may not make
    **dict.fromkeys(("open", "truncate", "mkdir", "rmdir", "symlink", "rename", "unlink", "mknod"), (-13,)),
    **dict.fromkeys(("chmod", "chown", "utimes", "setxattr", "removexattr", "mount", "umount"), (-1,)),
    "link": (-1, -13),
}


def _rule(kind: EventType) -> str:
    if kind in _PROCESSES:
        return f'{kind.label}.file.path == "{QUICK}"' if kind is not EventType.FORK else "fork.uid == 4711"
    return f'{kind.label}.{"mountpoint" if kind in _MOUNTS else "file"}.path =~ "/w/**"'


@pytest.fixture(scope="module")
def daemon(guest: Guest, actions: Actions) -> Iterator[Daemon]:
    """One agent for all tests that do not change it, with a rule for each event type."""
    wanted = {kind.label: _rule(kind) for kind in EventType}
    with running(guest, rules(**wanted, script='exec.script.path =~ "/w/scripts/**"')) as started:
        yield started


@pytest.fixture(scope="module")
def everything(daemon: Daemon, actions: Actions) -> tuple[dict[str, Any], list[Match]]:
    """Every call, successful and refused, and the agent's matches."""
    results = actions.do("every_type")
    return results, daemon.settled()


def below(matches: list[Match], folder: str, kind: str) -> list[dict[str, Any]]:
    found = [match for match in matches if match["rule"] == kind == match["event"]["type"]]
    return [match for match in found if match["event"]["path"].startswith(folder)]


@pytest.mark.parametrize("kind", sorted(_REFUSED))
def test_allowed(everything: tuple[dict[str, Any], list[Match]], kind: str) -> None:
    results, matches = everything
    assert results["allowed"][kind] == 0
    last = below(matches, "/w/allowed/", kind)[-1]
    event, process = last["event"], last["process"]
    assert event["retval"] >= 0
    assert event["inode"] > 0
    assert event["device"] > 0
    assert event["mount_ns"] > 0
    assert int(event["mode"], 8) > 0
    assert (event["uid"], event["gid"]) in {(0, 0), (12, 34)}
    assert (process["pid"], process["tid"]) == (results["pid"], results["pid"])
    assert process["comm"] == "python3"
    assert process["args"][1:] == ["/root/guest_actions.py", "every_type"]
    assert re.fullmatch("/usr/bin/python3[.0-9]*", process["exe"])
    assert (process["uid"], process["user"]) == (0, "root")
    assert {"sshd"} & {one["comm"] for one in process["ancestors"]}
    assert last["container"] is None


@pytest.mark.parametrize("kind", sorted(_REFUSED))
def test_refused(everything: tuple[dict[str, Any], list[Match]], kind: str) -> None:
    """A refused call is one event, with errno, user and complete path."""
    results, matches = everything
    assert results["refused"][kind] in _REFUSED[kind]
    refused = [m for m in below(matches, "/w/refused/", kind) if m["process"]["uid"] == guest_actions.USER]
    assert [m["event"]["retval"] for m in refused] == [results["refused"][kind]]


@pytest.fixture(scope="module")
def hidden(daemon: Daemon, actions: Actions) -> tuple[dict[str, int], list[Match]]:
    """Calls on files below a directory that the user may not search, and the agent's matches."""
    results = actions.do("hidden")
    return results, daemon.settled()


@pytest.mark.parametrize("kind", sorted(set(_REFUSED) - {"mount", "umount"}))
def test_refused_in_the_lookup(hidden: tuple[dict[str, int], list[Match]], kind: str) -> None:
    """Such a call is one event too, with the caller's path, which is marked."""
    results, matches = hidden
    assert results[kind] == -13
    refused = [m for m in below(matches, "/w/hidden/", kind) if m["process"]["uid"] == guest_actions.USER]
    assert [m["event"]["retval"] for m in refused] == [-13]
    event = refused[0]["event"]
    assert event["path_marks"] == ["as_given"]
    assert event["path"].startswith("/w/hidden/inside/")
    if kind == "chown":
        assert (event["new_uid"], event["new_gid"]) == (12, 34)
    if kind == "chmod":
        assert event["requested_mode"][-4:] == "4711"


@pytest.mark.parametrize("kind", ["mount", "umount"])
def test_a_mount_that_fails_early_is_no_event(hidden: tuple[dict[str, int], list[Match]], kind: str) -> None:
    """The documentation says so: the kernel does not find its mount point."""
    results, matches = hidden
    assert results[kind] < 0
    assert below(matches, "/w/hidden/", kind) == []


def test_the_process_of_an_event(daemon: Daemon, actions: Actions) -> None:
    """Events have the same ids as `/proc` shows for the process."""
    results = actions.do("identity")
    found = [match for match in daemon.settled() if match["event"]["path"] == "/w/common/identity"]
    (opened,) = [match for match in found if match["rule"] == "open"]
    reported = {**opened["process"], "mount_ns": opened["event"]["mount_ns"]}
    assert {name: reported[name] for name in results} == results
    assert results["auid"] == 4242
    assert results["gid"] == 1234


def test_the_fields_of_each_type(everything: tuple[dict[str, Any], list[Match]]) -> None:
    _, matches = everything

    def of(kind: str) -> dict[str, Any]:
        event: dict[str, Any] = below(matches, "/w/allowed/", kind)[-1]["event"]
        return event

    opened = of("open")
    assert {"O_WRONLY", "O_CREAT"} <= set(opened["flags"])
    assert (opened["path"], opened["requested_mode"], opened["mode"]) == (
        "/w/allowed/opened",
        "640",
        "100640",
    )
    assert of("close")["path"] == "/w/allowed/opened"
    assert (of("mkdir")["requested_mode"], of("mkdir")["mode"]) == ("750", "40750")
    assert of("mknod")["mode"] == "10644"
    assert of("rename")["path"] == "/w/allowed/moving"
    assert of("rename")["destination"]["path"] == "/w/allowed/moved"
    assert of("link")["path"] == "/w/allowed/file"
    assert of("link")["destination"]["path"] == "/w/allowed/linked"
    assert of("symlink")["target"] == "some/where"
    assert of("chmod")["requested_mode"][-4:] == "4711"
    assert (of("chown")["new_uid"], of("chown")["new_gid"]) == (12, 34)
    assert of("setxattr")["xattr"] == of("removexattr")["xattr"] == "trusted.deed"
    assert (of("mount")["fs_type"], of("mount")["source"]) == ("tmpfs", "tmpfs")
    assert of("umount")["path"] == "/w/allowed/mountpoint"


def test_paths(daemon: Daemon, actions: Actions) -> None:
    """Paths are those of the process's mount namespace; a root of the process is reported."""
    results = actions.do("places")
    matches = daemon.settled()
    by_path = {match["event"]["path"]: match for match in matches if match["rule"] == "open"}
    assert "/w/bind/through" in by_path
    for name in ("/w/jail/inner/jailed", "/w/jail/inner/relative"):
        assert by_path[name]["process"]["root"] == results["jail"]
    assert "deleted" in by_path["/w/gone"]["event"]["path_marks"]
    private = by_path["/w/private/seen"]["event"]
    assert private["mount_ns"] == results["namespace"] != results["host_namespace"]
    assert by_path["/w/bind/through"]["event"]["mount_ns"] == results["host_namespace"]
    names = {unescape(path) for path in by_path}
    assert b"/w/" + guest_actions.STRANGE in names
    actions.guest.run(["kill", "-USR1", str(results["jailed"])])


def test_root_of_a_process_that_has_ended(daemon: Daemon, actions: Actions) -> None:
    """The root is reported, because the kernel's record has it."""
    daemon.signal("STOP")
    results = actions.do("brief_jail")
    daemon.signal("CONT")
    found = [match for match in daemon.settled() if match["event"]["path"] == "/w/brief/jail/brief"]
    assert {match["rule"] for match in found} == {"open", "close"}
    assert {match["process"]["root"] for match in found} == {results["jail"]}


def test_script(daemon: Daemon, actions: Actions) -> None:
    """An exec has the interpreter that runs, and the script."""
    results = actions.do("script")
    (reported,) = [match for match in daemon.settled() if match["rule"] == "script"]
    assert reported["event"]["path"] == results["interpreter"] == reported["process"]["exe"]
    assert reported["event"]["script"] == results["script"]


def test_layers_of_overlayfs(daemon: Daemon, actions: Actions) -> None:
    """Events have the layer of the file when it was opened."""
    actions.do("overlay")
    opens = [match["event"] for match in daemon.settled() if match["rule"] == "open"]
    merged = [event for event in opens if event["path"].startswith("/w/layers/merged/")]
    reported = [(Path(event["path"]).name, set(event["path_marks"]) & {"upper", "lower"}) for event in merged]
    assert [one for one in reported if one[0] == "read"] == [("read", {"lower"})]
    assert [one[1] for one in reported if one[0] == "written"][-1] == {"upper"}
    assert [one for one in reported if one[0] == "made"] == [("made", {"upper"})]


@pytest.mark.usefixtures("actions")  # for the program
def test_a_short_lived_process(daemon: Daemon, guest: Guest) -> None:
    """Its data is complete, although the agent reads the events after its end."""
    words = [QUICK, "--flag", "a b", "", "/w/quick"]
    daemon.signal("STOP")
    shell = 'uid=0; sh -c \'"$@"\' inner "$@"; true'
    assert guest.run(["sh", "-c", shell, "outer", *words]).status == 0
    daemon.signal("CONT")
    matches = [match for match in daemon.settled() if match["process"]["exe"] == QUICK]
    assert [match["rule"] for match in matches] == ["exec", "open", "exit", "close"]
    executed, opened, ended, _ = matches
    process = opened["process"]
    assert process["args"] == words == executed["process"]["args"]
    assert (process["exe"], process["comm"]) == (QUICK, "quick")
    assert process["ancestors"][0]["comm"] == "sh"
    assert process["ancestors"][0]["pid"] == process["ppid"]
    assert "sshd" in {one["comm"] for one in process["ancestors"]}
    assert ended["event"]["exit_code"] == 0


def test_container(daemon: Daemon, actions: Actions) -> None:
    """The cgroup's path identifies it, also after the end of the process."""
    results = actions.do("contained")
    found = [match for match in daemon.settled() if match["event"]["path"] == "/w/contained"]
    assert found
    wanted = {"id": results["id"], "runtime": "docker", "rootless_id": ""}
    assert all(match["container"] == wanted for match in found)


def test_fork(daemon: Daemon, guest: Guest) -> None:
    guest.run(["python3", "-c", "import os; os.setuid(4711); os.fork() or os._exit(0); os.wait()"])
    forks = [match for match in daemon.settled() if match["rule"] == "fork"]
    assert [match["process"]["uid"] for match in forks] == [4711]


def test_nothing_was_lost(daemon: Daemon) -> None:
    status = daemon.status()
    assert status["lost"] == 0
    assert set(status["ledger"]) == {kind.label for kind in EventType}
    assert set(status["coverage"].values()) == {"full"}
