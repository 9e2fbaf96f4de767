"""The field `any_path`: it follows a file by its inode, from the path that a rule names."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import RuleErrors
from agent.events.model import Event, EventType, File
from agent.filters.approvers import Mode, derive
from agent.filters.model import approves
from agent.rules import followed as module
from agent.rules.engine import Ruleset
from agent.rules.followed import Followed, Target, target
from agent.rules.load import load, loads


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    path = tmp_path / "watched"
    path.touch()
    return path


def rule(expression: str) -> Ruleset:
    return loads(f"rules:\n  - {{id: a, expression: '{expression}'}}\n")


def opened(path: Path, *, by: str = "", kind: EventType = EventType.OPEN) -> Event:
    """Return the event of a file, as the kernel reports it by the path `by`."""
    found = target(os.fsencode(path))
    assert found
    return Event(kind, file=File(by.encode() or os.fsencode(path), found.inode, found.device))


def matches(rules: Ruleset, event: Event) -> bool:
    return rules.evaluate(event) == ["a"]


@pytest.mark.parametrize("form", ['open.file.any_path == "{}"', 'open.file.any_path in ["/none", "{}"]'])
def test_any_path_of_the_file_matches(watched: Path, form: str) -> None:
    """And no other file, also with the same inode number on another device."""
    rules = rule(form.format(watched))
    event = opened(watched, by="/mnt/else")
    assert matches(rules, event)
    assert not matches(rules, replace(event, file=replace(event.file, inode=event.file.inode + 1)))
    assert not matches(rules, replace(event, file=replace(event.file, device=event.file.device + 1)))


def test_the_path_itself_matches_whatever_lies_there(watched: Path) -> None:
    assert matches(
        rule(f'open.file.any_path == "{watched}"'), Event(EventType.OPEN, file=File(os.fsencode(watched)))
    )


def test_a_symbolic_link_is_followed(watched: Path) -> None:
    """Events have the path without links, so no line warns of the link."""
    link = watched.with_name("link")
    link.symlink_to(watched)
    rules = watched.with_name("rules.yaml")
    rules.write_text(f'rules:\n  - {{id: a, expression: open.file.any_path == "{link}"}}\n')
    loaded = load([rules])
    assert loaded.notes == ()
    assert matches(loaded, opened(watched))


def test_negated(watched: Path) -> None:
    rules = rule(f'open.file.any_path != "{watched}"')
    assert not matches(rules, opened(watched, by="/mnt/else"))
    assert matches(rules, opened(watched.parent))


def test_a_path_without_a_file_is_a_path() -> None:
    rules = rule('open.file.any_path == "/none/such"')
    assert matches(rules, Event(EventType.OPEN, file=File(b"/none/such")))


def test_the_kernel_filters_by_inode(watched: Path) -> None:
    """It rejects other files."""
    approvers = derive(rule(f'open.file.any_path == "{watched}"'))[EventType.OPEN]
    assert approvers.mode is Mode.APPROVE
    event = opened(watched, by="/mnt/else")
    assert approves(approvers, event)
    assert not approves(approvers, replace(event, file=replace(event.file, inode=event.file.inode + 1)))


def test_a_new_file_is_known_by_its_path_only(watched: Path) -> None:
    """When the kernel decides about a mkdir, the directory has no inode yet."""
    approvers = derive(rule(f'fim.write.file.any_path == "{watched}"'))[EventType.MKDIR]
    assert (approvers.mode, approvers.inodes) == (Mode.APPROVE, frozenset())


def test_an_inode_number_of_a_new_file_is_no_approver() -> None:
    assert derive(rule("mkdir.file.inode == 42"))[EventType.MKDIR].mode is Mode.FORWARD_ALL
    assert derive(rule("rmdir.file.inode == 42"))[EventType.RMDIR].inodes == {42}


@pytest.mark.parametrize(
    "expression",
    [
        'open.file.any_path =~ "/etc/*"',
        'open.file.any_path in [~"/etc/**"]',
        'open.file.any_path == "/${process.comm}"',
        "open.file.any_path == process.file.path",
        "open.file.any_path.length > 3",
    ],
)
def test_only_constant_paths(expression: str) -> None:
    with pytest.raises(RuleErrors):
        rule(expression)


def test_a_replaced_file_is_noticed_and_followed(watched: Path) -> None:
    rules = watched.with_name("rules.yaml")
    rules.write_text(f'rules:\n  - {{id: a, expression: open.file.any_path == "{watched}"}}\n')
    loaded = load([rules])
    assert not loaded.followed.changed()
    new = watched.with_name("new")
    new.touch()
    new.replace(watched)
    rules.write_text("rules: []")  # not loaded again: only the user decides when
    assert loaded.followed.changed()
    assert not matches(loaded, opened(watched, by="/mnt/else"))
    assert loaded.renew
    assert matches(loaded.renew(), opened(watched, by="/mnt/else"))


def test_rules_that_follow_no_file_do_not_keep_their_texts(watched: Path) -> None:
    rules = watched.with_name("rules.yaml")
    rules.write_text(f'rules:\n  - {{id: a, expression: open.file.path == "{watched}"}}\n')
    assert load([rules]).renew is None


def test_each_path_is_looked_up_once() -> None:
    asked: list[bytes] = []
    followed = Followed(lambda path: asked.append(path))
    assert followed.follow(b"/a") is followed.follow(b"/a") is None
    assert asked == [b"/a"]


def test_variables_outlive_a_changed_file(watched: Path, tmp_path: Path) -> None:
    """A user who exchanges a file that rules follow does not reset what other rules have collected."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f"""rules:
  - {{id: follow, expression: open.file.any_path == "{watched}"}}
  - {{id: first, expression: open.file.name == "first", actions: [{{set: {{name: seen, value: true}}}}]}}
  - id: second
    expression: open.file.name == "second" && ${{seen}}
"""
    )
    before = load([rules])
    before.evaluate(Event(EventType.OPEN, file=File(b"/first")))
    assert before.renew
    renewed = before.renew()
    second = Event(EventType.OPEN, file=File(b"/second"))
    assert renewed.evaluate(second) == before.evaluate(second) == ["second"]
    assert load([rules]).evaluate(second) == []


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """Until it is set, a file system does not answer."""
    event = threading.Event()
    yield event
    event.set()


def test_a_path_without_an_answer_delays_no_other(answer: threading.Event) -> None:
    """Its file is not known until the file system answers; then the rules are renewed."""
    files = {b"/silent": Target(b"/silent", 1, 1), b"/other": Target(b"/other", 1, 2)}

    def find(path: bytes) -> Target:
        if path == b"/silent":
            answer.wait()
        return files[path]

    followed = Followed(find, answer_s=0.01)
    followed.look_up(files)
    assert followed.follow(b"/silent") is None
    assert followed.follow(b"/other") == files[b"/other"]
    assert followed.silent == {b"/silent"}
    assert not followed.changed()
    files[b"/other"] = Target(b"/other", 1, 3)
    assert followed.changed()
    files[b"/other"] = Target(b"/other", 1, 2)
    waiting = _lookups()
    assert Followed(find, answer_s=0.01).follow(b"/silent") is None
    assert _lookups() == waiting, "one thread waits for a path"
    answer.set()
    _end_lookups()
    assert Followed(find, answer_s=60).follow(b"/silent") == files[b"/silent"]


def _lookups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lookup"]


def _end_lookups() -> None:
    for thread in _lookups():
        thread.join()


def test_paths_are_looked_up_side_by_side(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that do not answer delay the start by one second, not by one for each path."""
    all_at_once = threading.Barrier(3)

    def find(_: bytes) -> None:
        all_at_once.wait(60)

    monkeypatch.setattr(module, "target", find)
    rules = watched.with_name("rules.yaml")
    rules.write_text(
        """macros:
  - {id: second, expression: open.file.any_path == "/b"}
rules:
  - {id: a, expression: open.file.any_path == "/a"}
  - {id: b, expression: second}
  - {id: c, expression: 'fim.write.file.any_path in ["/c", "/a"]'}
"""
    )
    loaded = load([rules])
    assert loaded.notes == ()
    assert set(loaded.followed.files) == {b"/a", b"/b", b"/c"}
    assert not loaded.followed.changed()


def test_only_so_many_threads_wait(monkeypatch: pytest.MonkeyPatch, answer: threading.Event) -> None:
    """However many paths lead to a file system that does not answer."""
    monkeypatch.setattr(module, "MAX_LOOKUPS", 2)
    paths = [b"/a", b"/b", b"/c"]

    def find(_: bytes) -> None:
        answer.wait()

    followed = Followed(find, answer_s=0.01)
    followed.look_up(paths)
    assert followed.silent == set(paths)
    assert len(_lookups()) == 2
    assert not followed.changed()
    assert len(_lookups()) == 2
    answer.set()
    _end_lookups()
    assert not followed.changed()


def test_a_path_without_an_answer_is_named(
    watched: Path, monkeypatch: pytest.MonkeyPatch, answer: threading.Event
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.01)
    monkeypatch.setattr(module, "target", lambda _: answer.wait() or None)
    rules = watched.with_name("rules.yaml")
    rules.write_text(f'rules:\n  - {{id: a, expression: open.file.any_path == "{watched}"}}\n')
    assert load([rules]).notes == (
        f"the file at {watched} is not followed yet: a file system on the way does not answer",
    )
