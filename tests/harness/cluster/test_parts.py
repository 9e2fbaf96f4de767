"""The pure parts of the package: placement, archives, parts, keys, addresses, and what is recorded."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster import archive, connect, facts, keys, kit, part, wire
from harness.cluster.facts import Facts
from harness.cluster.part import Part
from harness.cluster.placement import KVM, MACHINE, MEMORY, Need, Past, Worker, choose, impossible
from harness.cluster.received import report_of
from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import Phase, Step
from harness.plan.plan import Plan
from harness.results import model
from harness.results.model import Attempt, Host
from harness.results.verdict import Verdict
from tests.harness.report.made_up import every_verdict

AMD64 = {"amd64": "tcg"}


def worker(name: str, store: str = "", **kinds: str) -> Worker:
    return Worker(name, name, "host", store, kinds or AMD64, 4096)


# --- placement ---


@given(
    st.lists(st.sampled_from(["amd64", "arm64"]), max_size=12),
    st.lists(st.sampled_from([("tcg", ""), ("kvm", ""), ("tcg", "tcg")]), max_size=8),
)
def test_never_more_machines_than_slots(needs: list[str], hosts: list[tuple[str, str]]) -> None:
    """Each idle worker gets at most one machine that it can run, and none is idle that could run one."""
    waiting = [Need(f"m{number}", arch) for number, arch in enumerate(needs)]
    idle = [
        worker(
            f"w{number}", **{arch: kind for arch, kind in zip(("amd64", "arm64"), kinds, strict=True) if kind}
        )
        for number, kinds in enumerate(hosts)
    ]
    chosen = choose(waiting, idle, Past())
    assert len({one.address for _, one in chosen}) == len(chosen) == len({need for need, _ in chosen})
    assert not any(one.lacks(need) for need, one in chosen)
    left = [need for need in waiting if need not in [need for need, _ in chosen]]
    free = [one for one in idle if one not in [one for _, one in chosen]]
    assert not any(not one.lacks(need) for need in left for one in free)


def test_a_worker_that_has_the_kernel_is_preferred() -> None:
    idle = [worker("a", "there"), worker("b", "here")]
    assert choose([Need("m", kernel="k")], idle, Past({"here": {"k"}})) == [(Need("m", kernel="k"), idle[1])]


def test_an_able_worker_is_kept_for_a_machine_that_needs_it() -> None:
    plain, able = worker("b"), worker("a", amd64="tcg", arm64="tcg")
    assert choose([Need("m")], [able, plain], Past()) == [(Need("m"), plain)]


def test_a_machine_goes_to_another_worker_than_the_one_that_lost_it() -> None:
    """Also if it has to wait for that one; unless no other worker can run it."""
    lost, other = worker("a"), worker("b")
    past = Past(lost_by={"m": {"a"}})
    assert choose([Need("m")], [lost], past, [lost, other]) == []
    assert choose([Need("m")], [lost, other], past, [lost, other]) == [(Need("m"), other)]
    assert choose([Need("n")], [lost], past, [lost, other]) == [(Need("n"), lost)]
    other.refused = "its disk is full"
    assert choose([Need("m")], [lost], past, [lost, other]) == [(Need("m"), lost)]
    assert choose([Need("m", "arm64")], [worker("a", arm64="tcg")], past, [worker("b")])


def test_the_longest_machine_is_first() -> None:
    assert [need.machine for need, _ in choose([Need("long"), Need("short")], [worker("a")], Past())] == [
        "long"
    ]


def test_a_task_holds_the_half_of_a_worker() -> None:
    """So that a worker has two: one that runs, and one that it prepares."""
    assert Need("m", "arm64", kvm=True, memory_mib=512).resources == {
        MACHINE: 0.5,
        MEMORY: 256.0,
        "arm64": 0.5,
        KVM: 0.5,
    }


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (Need("m", "arm64"), "no worker has arm64 guests"),
        (Need("m", kvm=True), "no worker has KVM for amd64 guests"),
        (Need("m", memory_mib=9999), "no worker has 9999 MiB of memory"),
        (Need("m"), ""),
    ],
)
def test_what_no_worker_has(need: Need, reason: str) -> None:
    assert impossible(need, [worker("a")]) == reason


def test_a_refused_worker_gets_nothing() -> None:
    refused = worker("a")
    refused.refused = "its canary failed"
    assert choose([Need("m")], [refused], Past()) == []
    assert impossible(Need("m"), [refused]) == "the cluster has no worker that can be used"


# --- archives ---


def output(folder: Path) -> Path:
    (folder / "cells/6.1-auto").mkdir(parents=True)
    (folder / "cells/6.1-auto/console.log").write_bytes(b"x" * 5000)
    (folder / "results.json").write_text("{}")
    (folder / "plan.json").write_text("{}")
    (folder / "cells/6.1-auto/link").symlink_to("/etc/passwd")
    return folder


def test_an_output_arrives_without_links(tmp_path: Path) -> None:
    data, left_out = archive.pack(output(tmp_path / "out"))
    archive.extract(data, tmp_path / "in")
    names = {
        path.relative_to(tmp_path / "in").as_posix()
        for path in (tmp_path / "in").rglob("*")
        if path.is_file()
    }
    assert names == {"results.json", "plan.json", "cells/6.1-auto/console.log"}
    assert left_out == []


def test_evidence_beyond_the_bound_stays_behind(tmp_path: Path) -> None:
    """The results are sent all the same."""
    data, left_out = archive.pack(output(tmp_path / "out"), max_bytes=1000)
    archive.extract(data, tmp_path / "in")
    assert left_out == ["cells/6.1-auto/console.log"]
    assert (tmp_path / "in/results.json").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE),
        ("/etc/evil", tarfile.REGTYPE),
        ("cells/../../evil", tarfile.REGTYPE),
        ("cells/a/b/c", tarfile.REGTYPE),
        ("evil", tarfile.REGTYPE),
        ("results.json", tarfile.SYMTYPE),
        ("cells/a/b", tarfile.LNKTYPE),
        ("cells/a/b", tarfile.CHRTYPE),
        ("cells/a/" + "b" * 256, tarfile.REGTYPE),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(InfrastructureError, match="unexpected member"):
        archive.extract(zstandard.compress(stream.getvalue()), tmp_path / "in")
    assert not (tmp_path / "evil").exists()


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    """No error that would count as one of this host's disk, and end the run."""
    entry = tarfile.TarInfo("cells/a/b").tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(InfrastructureError, match="unexpected member 'cells/a/b'"):
        archive.extract(zstandard.compress(2 * entry + bytes(1024)), tmp_path / "in")


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("cells/a/b")
    entry.pax_headers = {"path": "cells/a/b\0c"}
    with pytest.raises(InfrastructureError, match="unexpected member"):
        archive.extract(zstandard.compress(entry.tobuf(tarfile.PAX_FORMAT) + bytes(1024)), tmp_path / "in")


def test_headers_that_python_cannot_read_are_refused(tmp_path: Path) -> None:
    """Thousands in a row, one that would fill the memory, and a number that is none."""
    long, huge = tarfile.TarInfo("x"), tarfile.TarInfo("x")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1
    nested = 3000 * (long.tobuf(tarfile.GNU_FORMAT) + b"x" + bytes(511))
    huge.type, huge.size = tarfile.XHDTYPE, 6 << 30
    wrong = tarfile.TarInfo("cells/a/b")
    wrong.pax_headers = {"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"}
    for data in (nested, huge.tobuf(tarfile.GNU_FORMAT), wrong.tobuf(tarfile.PAX_FORMAT)):
        with pytest.raises(InfrastructureError, match="not a valid archive"):
            archive.extract(zstandard.compress(data + bytes(1024)), tmp_path / "in")


def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("cells/a/b")
        entry.size = 4 << 20
        tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(InfrastructureError, match="larger than its bounds"):
        archive.extract(zstandard.compress(stream.getvalue()), tmp_path / "in", max_bytes=1 << 20)
    with pytest.raises(InfrastructureError, match="not a valid archive"):
        archive.extract(b"no archive", tmp_path / "in2")


# --- parts, events and what is recorded ---


def test_a_part_is_no_text(plan: Plan) -> None:
    """Dask takes a text for the name of another task, such as a cell's id."""
    sent = Part(machine="6.1-amd64", plan=plan, lock="", expectations="")
    assert isinstance(sent.to_bytes(), bytes)
    assert Part.from_bytes(sent.to_bytes()) == sent


def test_a_part_in_a_folder(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"bundle")
    (tmp_path / "part").mkdir()
    sent = Part(
        machine="6.1-amd64", plan=plan, lock="{}", expectations="", blobs={part.AGENT: "digest"}, host="a"
    )
    part.write(sent, tmp_path / "part", {"digest": tmp_path / "bundle"})
    assert part.read(tmp_path / "part") == sent.model_copy(update={"lock": ""})
    assert part.bundle(tmp_path / "part") == b"bundle"
    with pytest.raises(ConfigError, match="not the part of a run"):
        part.read(tmp_path)


def test_events_arrive_as_they_were_sent() -> None:
    stream = io.StringIO()
    writer = wire.Writer(stream)
    test = every_verdict().cells[0].tests[0]
    writer(Step(Phase.BOOT, machine="6.1-amd64"))
    writer("a\nremark")
    writer.repeated("6.1-auto", test)
    writer.ended("6.1-auto", test)
    events = [wire.parse(line.encode()) for line in stream.getvalue().splitlines()]
    assert events == [
        Step(Phase.BOOT, machine="6.1-amd64"),
        "a remark",
        ("6.1-auto", test, False),
        ("6.1-auto", test, True),
    ]
    assert wire.parse(b"printed by a library") is None
    assert wire.parse(b'["test", 1]') is None
    assert wire.parse(b"[" * 100_000) is None


def test_a_result_is_the_report_that_it_came_from() -> None:
    """Of every verdict: the report of a received cell gives the same cell again."""
    whole = every_verdict()
    for cell in whole.cells:
        report = report_of(cell, [])
        tests = list(cell.tests)
        final = model._final(report, tests, "another reason")
        if cell.closed:
            assert (final.verdict, final.reason) == (cell.verdict, cell.reason)
        assert report.attempts == cell.attempts[:-1]
    lost = [Attempt(verdict=Verdict.INFRA, reason="worker a was lost")]
    assert report_of(whole.cells[0], lost).attempts[0] == lost[0]


# --- facts ---


def known(**change: object) -> Facts:
    values = {
        "versions": facts.versions(),
        "host": Host(name="a", cpus=2, memory_mib=1, kernel="6.1"),
        "store": "s",
        "accelerators": AMD64,
        "disk_mib": 9999,
        "free_mib": 9999,
    }
    return Facts.model_validate({**values, **change})


def test_why_a_worker_gets_no_work() -> None:
    """Another version is named with both numbers."""
    other = {**facts.versions(), "harness": "0.0.9 (abc)"}
    assert facts.refusal(known()) == ""
    ours = facts.versions()["harness"]
    assert facts.refusal(known(versions=other)) == f"it has harness 0.0.9 (abc), this host has {ours}"
    failed = known(accelerators={}, problems=("amd64: the canary did not end",))
    assert facts.refusal(failed) == "its canary failed: amd64: the canary did not end"
    assert "only 3 MiB" in facts.refusal(known(disk_mib=3))


def test_resources_that_a_worker_declares_stay() -> None:
    """`dask worker --resources machine=1` may already have said something of its memory."""
    assert facts.resources_of(known(), {"machine": 1, "memory": 5}) == {"amd64": 1.0}
    assert facts.resources_of(known(accelerators={"amd64": "kvm"}), {})["kvm"] == 1.0


# --- keys and addresses ---


def test_keys_are_private(tmp_path: Path) -> None:
    written = keys.make(tmp_path / "keys")
    assert {path.name for path in written} == {"ca.pem", "scheduler.pem", "worker.pem", "client.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert keys.security(tmp_path / "keys").require_encryption
    with pytest.raises(ConfigError, match="not empty"):
        keys.make(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(ConfigError, match="not private to this user"):
        keys.security(tmp_path / "keys")
    with pytest.raises(ConfigError, match="no keys of a cluster"):
        keys.security(tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.parametrize("name", [".", "ca.pem", "worker.pem"])
def test_keys_of_another_user_are_refused(tmp_path: Path, name: str) -> None:
    """That user could replace a file after it was checked."""
    keys.make(tmp_path / "keys")
    os.chown(tmp_path / "keys" / name, 1234, 1234)
    with pytest.raises(ConfigError, match=r"another user") as caught:
        keys.security(tmp_path / "keys")
    assert "chown" in caught.value.hint


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tcp://10.0.0.1:8786", "without TLS only a scheduler on 127.0.0.1"),
        ("tcp://example.org:8786", "without TLS only a scheduler on 127.0.0.1"),
        ("tls://10.0.0.1:8786", "TLS needs keys"),
        ("tls://10.0.0.1", "not a cluster"),
        ("tls://10.0.0.1:port", "not a cluster"),
        ("tls://10.0.0.1:0", "not a cluster"),
        ("tls://10.0.0.1:65536", "not a cluster"),
        ("tcp://127.0.0.1:8786/../x", "not a cluster"),
        ("tcp://127.0.0.1:8786?x", "not a cluster"),
        ("tcp://10.0.0.1:1@127.0.0.1:8786", "not a cluster"),
        ("tcp://127.0.0.1 :8786", "not a cluster"),
        ("tcp://127.0.0.1:\uff18\uff17", "not a cluster"),
        ("inproc://127.0.0.1:8786", "not a cluster"),
        ("local:0", "neither a cluster nor a scheduler file"),
        ("local:x", "neither a cluster nor a scheduler file"),
    ],
)
def test_addresses_that_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        connect.parse(word, None)


def test_a_scheduler_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    for text in ("[" * 100_000, "{}", "[1]", '{"address": 5}', "\xff", '{"address": "tls://\x1b[2J:1"}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"not a cluster|neither a cluster"):
            connect.parse(str(path), tmp_path)


def test_addresses(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tls://10.0.0.1:8786"}')
    assert connect.parse("local:3", None).slots == 3
    assert connect.parse(str(file), tmp_path).address == "tls://10.0.0.1:8786"
    assert connect.parse("tcp://[::1]:8786", None).address == "tcp://[::1]:8786"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_files_of_another_user_name_no_cluster(tmp_path: Path) -> None:
    """The scheduler that they name could run code here."""
    scheduler, kept = tmp_path / "scheduler.json", tmp_path / "out/cluster.json"
    kept.parent.mkdir()
    for path in (scheduler, kept):
        path.write_text('{"address": "tcp://127.0.0.1:8786"}')
        os.chown(path, 1234, 1234)
    with pytest.raises(ConfigError, match=r"scheduler\.json is owned by uid 1234"):
        connect.parse(str(scheduler), None)
    with pytest.raises(ConfigError, match=r"cluster\.json is owned by uid 1234"):
        kit.load(kept.parent)
    os.chown(scheduler, 0, 0)
    scheduler.chmod(0o666)
    with pytest.raises(ConfigError, match="every user of this host can change it"):
        connect.parse(str(scheduler), None)
