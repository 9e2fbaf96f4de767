"""Contexts as rules see them: looked up once, when first read."""

from __future__ import annotations

import pytest

from agent.context import handles
from agent.context.cgroups import WALK_INTERVAL_NS
from agent.events.actors import HOST, NOT_LIVE, Container
from tests.agent.context.conftest import SECOND, FakeHost, exec_, exit_, fork, opened

ID = "0123456789abcdef" * 4
SCOPE = f"/system.slice/docker-{ID}.scope"
DOCKER = Container(ID.encode(), b"docker")


def test_process_joins_the_event_and_the_cache(host: FakeHost) -> None:
    host.add_process(1, 0, b"/sbin/init", b"init")
    host.add_process(5, 1, b"/bin/vim", b"vim", b"/etc/passwd", uid=33, born_ns=SECOND)
    enricher = host.enricher()
    enricher.start()
    process = enricher.context(opened(2 * SECOND, 5, uid=0)).process
    assert (process.exe, process.name, process.args) == (b"/bin/vim", b"vim", (b"vim", b"/etc/passwd"))
    assert (process.uid, process.user, process.comm) == (0, b"root", b"opener")  # as it was at the event
    assert [(a.exe, a.user) for a in process.ancestors] == [(b"/sbin/init", b"root")]


def test_events_of_a_thread_share_a_process_until_it_changes(host: FakeHost) -> None:
    """Another user, program, thread, parent or name is another object with the new facts."""
    host.add_process(1, 0, b"/sbin/init", b"init")
    host.add_process(5, 1, b"/bin/vim", b"vim", uid=33, born_ns=SECOND)
    enricher = host.enricher()
    enricher.start()
    first = enricher.context(opened(2 * SECOND, 5, uid=33)).process
    assert enricher.context(opened(3 * SECOND, 5, uid=33)).process is first
    seen = [first]
    for change in ({"uid": 0}, {"gid": 7}, {"auid": 7}, {"ppid": 9}, {"comm": b"other"}, {"tid": 6}):
        event = opened(3 * SECOND, 5, uid=33)
        for name, value in change.items():
            setattr(event, name, value)
        seen.append(enricher.context(event).process)
        assert all(getattr(seen[-1], name) == value for name, value in change.items())
    enricher.context(exec_(4 * SECOND, 5, 1, b"/bin/less"))
    seen.append(enricher.context(opened(5 * SECOND, 5, uid=33)).process)
    assert seen[-1].exe == b"/bin/less"
    assert len(set(map(id, seen))) == len(seen)


def test_root_of_a_process_that_lives(host: FakeHost) -> None:
    host.add_process(5, 1, b"/bin/a")
    (host.proc / "5/root").symlink_to("/srv/jail")
    enricher = host.enricher()
    enricher.start()
    assert enricher.context(opened(SECOND, 5)).root == b"/srv/jail"
    enricher.context(exit_(2 * SECOND, 5))
    assert enricher.context(opened(2 * SECOND, 5)).root == b""
    assert enricher.context(opened(SECOND, 77)).root == b""


def test_the_root_in_an_event_is_used(host: FakeHost) -> None:
    """It counts more than `/proc`; the last one is used when the kernel no longer knows it."""
    host.add_process(5, 1, b"/bin/a")
    (host.proc / "5/root").symlink_to("/elsewhere")
    enricher = host.enricher()
    enricher.start()
    jailed = opened(SECOND, 5)
    jailed.root = b"/srv/jail"
    assert enricher.context(jailed).root == b"/srv/jail"
    ended = exit_(2 * SECOND, 5)
    ended.root = b"/srv/jail"
    assert enricher.context(ended).root == b"/srv/jail"
    assert enricher.context(opened(2 * SECOND, 5)).root == b"/srv/jail"


def test_an_unknown_process_has_the_facts_of_the_event(host: FakeHost) -> None:
    process = host.enricher().context(opened(SECOND, 77, uid=33)).process
    assert (process.pid, process.comm, process.exe, process.user) == (77, b"opener", b"", b"www")


def test_nothing_is_looked_up_before_it_is_read(host: FakeHost) -> None:
    enricher = host.enricher()
    context = enricher.context(opened(SECOND, 77))
    assert enricher.processes.counters.unresolved == 0
    assert context.process is context.process
    assert enricher.processes.counters.unresolved == 1


def test_the_facts_of_proc_about_a_process(host: FakeHost) -> None:
    """None once it has exited."""
    host.add_process(5, 1, b"/bin/a")
    (host.proc / "5/cwd").symlink_to("/srv")
    assert host.enricher().context(opened(SECOND, 5)).live.cwd == b"/srv"
    host.remove_process(5)
    assert host.enricher().context(opened(SECOND, 5)).live == NOT_LIVE


def test_other_attributes_are_errors(host: FakeHost) -> None:
    with pytest.raises(AttributeError):
        _ = host.enricher().context(opened(SECOND, 77)).other  # type: ignore[attr-defined]


def test_container_by_cgroup_id_after_its_end(host: FakeHost) -> None:
    inode = host.add_cgroup(SCOPE)
    enricher = host.enricher()
    enricher.start()
    (host.cgroups / SCOPE[1:]).rmdir()
    assert enricher.context(opened(SECOND, 5, cgroup_id=inode)).container == DOCKER
    assert enricher.cgroups.counters.unknown == 0


def test_container_made_after_the_start_is_found_through_its_process(host: FakeHost) -> None:
    enricher = host.enricher()
    enricher.start()
    inode = host.add_cgroup(SCOPE)
    host.add_process(5, 1, b"/bin/a", cgroup=f"0::{SCOPE}")
    assert enricher.context(opened(SECOND, 5, cgroup_id=inode)).container == DOCKER
    assert enricher.cgroups.counters.walks == 1


def test_the_cgroup_of_the_event_counts_more_than_that_of_the_process(host: FakeHost) -> None:
    enricher = host.enricher()
    inode = host.add_cgroup(SCOPE)
    host.add_cgroup("/user.slice")
    host.add_process(5, 1, b"/bin/a", cgroup="0::/user.slice")
    assert enricher.context(opened(SECOND, 5, cgroup_id=inode)).container == DOCKER


def test_unknown_cgroups_do_not_cost_a_walk_each(host: FakeHost) -> None:
    enricher = host.enricher()
    for inode in range(100):
        assert enricher.context(opened(SECOND, 5, cgroup_id=1 << 40 | inode)).container is HOST
    assert enricher.cgroups.counters.walks == 1
    _ = enricher.context(opened(SECOND + WALK_INTERVAL_NS, 5, cgroup_id=1 << 41)).container
    assert enricher.cgroups.counters.walks == 2


def test_a_cgroup_is_found_by_its_id(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a search, where the kernel opens a directory by its id, known or not."""
    known = {7: SCOPE.encode()}
    monkeypatch.setattr(handles, "usable", lambda mount: True)
    monkeypatch.setattr(handles, "path_of", lambda mount, cgroup_id: known.get(cgroup_id))
    enricher = host.enricher()
    assert enricher.context(opened(SECOND, 5, cgroup_id=7)).container == DOCKER
    for number in range(100, 200):
        assert enricher.context(opened(SECOND * number, 5, cgroup_id=number)).container is HOST
    assert (enricher.cgroups.counters.walks, enricher.cgroups.counters.unknown) == (0, 100)
    del known[7]
    assert enricher.context(opened(SECOND, 5, cgroup_id=7)).container == DOCKER


def test_searches_and_stored_paths_are_bounded(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search ends at the number of stored paths, however many directories a user makes."""
    for number in range(30):
        host.add_cgroup(f"/a{number}")
    enricher = host.enricher()
    enricher.cgroups._max_paths = 10
    enricher.start()
    stored = len(enricher.cgroups._paths)
    host.add_cgroup("/b")
    _ = enricher.context(opened(SECOND, 5, cgroup_id=1 << 40)).container
    assert stored == len(enricher.cgroups._paths) == 10


class TestLegacyHierarchies:
    """cgroup v1: the process's file decides, because the event's cgroup id names no container."""

    @pytest.fixture(autouse=True)
    def _legacy(self, host: FakeHost) -> None:
        host.add_process(1, 0, b"/sbin/init", cgroup="2:pids:/\n0::/")

    def test_container_from_the_process(self, host: FakeHost) -> None:
        host.add_process(5, 1, b"/bin/a", cgroup=f"2:pids:/docker/{ID}\n0::/")
        enricher = host.enricher()
        enricher.start()
        root = host.cgroups.stat().st_ino
        assert enricher.context(opened(SECOND, 5, cgroup_id=root)).container == DOCKER

    def test_a_short_lived_child_has_the_container_of_its_parent(self, host: FakeHost) -> None:
        host.add_process(5, 1, b"/bin/a", cgroup=f"2:pids:/docker/{ID}\n0::/")
        enricher = host.enricher()
        enricher.start()
        _ = enricher.context(opened(SECOND, 5)).container
        for event in (fork(SECOND, 6, 5), exec_(SECOND, 6, 5, b"/b"), exit_(SECOND, 6)):
            enricher.context(event)
        assert enricher.context(opened(SECOND, 6)).container == DOCKER


def test_counters_are_numbers_by_name(host: FakeHost) -> None:
    counters = host.enricher().counters()
    assert counters["process_entries"] == 0
    assert {"process_evicted_live", "cgroup_unknown", "process_unresolved"} <= set(counters)
