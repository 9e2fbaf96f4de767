"""What may happen to the processes of a cluster: every machine of the plan ends in exactly one result."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cluster import keys
from harness.host import locks
from harness.results.verdict import Verdict
from tests.harness.cluster.place import Place, exists, once, worker_of


def test_workers_that_join_late_get_work_and_lost_ones_lose_nothing(place: Place) -> None:
    """A worker that joins while all tasks would fit on the first one; then the first one's host is killed."""
    place.matrix("5.10", "6.1", "6.12")
    place.script = {"*::truth.open": "hold"}
    place.scheduler()
    early = place.worker("early")
    client = place.client("--test", "truth.open")
    place.wait_for("test", 1)
    late = place.worker("late")
    place.wait_for("test", 2)
    assert place.count("boot") == 2  # no more machines than slots are handed out
    early.kill()  # the nanny: its worker ends with it, and the worker's child too
    first = place.pids("boot")[0]
    place.wait(lambda: not exists(first))
    place.go()
    code, output = place.ended(client)
    assert code == 0, output
    found = place.results()
    once(found, 3)
    assert {cell.host for cell in found.cells} == {"late"}
    assert [cell.attempts[0].reason for cell in found.cells if len(cell.attempts) > 1] == [
        f"worker early-{early.pid}-0 on early was lost"
    ]
    late.send_signal(signal.SIGINT)
    assert place.ended(late)[0] == 0


def test_a_late_worker_takes_a_machine_that_waits_for_its_turn(place: Place) -> None:
    """A worker prepares the next machine while one runs; another worker that is idle runs it at once."""
    place.matrix("6.1", "6.12")
    place.script = {"*::truth.open": "hold"}
    place.scheduler()
    place.worker("early")
    client = place.client("--test", "truth.open")
    place.wait_for("test 6.1-auto")
    place.wait_for("reap", 3)  # of the look at the host, and of both machines
    assert place.count("boot") == 1
    place.worker("late")
    place.wait_for("test 6.12-auto")
    place.go()
    code, output = place.ended(client)
    assert code == 0, output
    found = place.results()
    once(found, 2)
    assert [(cell.host, len(cell.attempts)) for cell in found.cells] == [("early", 1), ("late", 1)]


def test_the_rest_of_a_run_whose_scheduler_died(place: Place) -> None:
    """`--resume` runs only what has no result, on another cluster if it is named."""
    place.matrix("6.1", "6.12", "6.18")
    place.script = {"6.18-auto::truth.open": "hold"}
    scheduler = place.scheduler()
    worker = place.worker("first")
    client = place.client("--test", "truth.open")
    place.wait_for("destroy", 2)
    place.wait(lambda: len(list((place.out / "parts").glob("*.zst"))) == 2)
    scheduler.kill()
    code, output = place.ended(client)
    assert code == 4, output
    assert "Traceback" not in output
    assert f"harness run --resume {place.out}" in output
    assert place.results().totals == {Verdict.PASS: 2, Verdict.NOT_RUN: 1}
    code, output = place.ended(worker)
    assert code == 3, output
    assert "was lost" in output
    place.wait(lambda: not any(map(exists, place.pids("boot"))))
    place.go()
    code, output = place.ended(place.run("--resume", "out", "--cluster", "local:1"))
    assert code == 0, output
    found = place.results()
    once(found, 3)
    assert {cell.host for cell in found.cells} == {"first", os.uname().nodename}
    assert [line.split(" ", 1)[1] for line in place.lines()].count("boot 6.1-amd64") == 1
    code, output = place.ended(place.run("--resume", "."))
    assert code == 2, output
    assert "not the folder of a run" in output


def test_a_result_outlives_its_worker(place: Place) -> None:
    """It is fetched as soon as its machine has ended, so the machine does not run again."""
    place.matrix("6.1", "6.12")
    place.script = {"6.12-auto::truth.open": "hold"}
    place.scheduler()
    first = place.worker("first")
    client = place.client("--test", "truth.open")
    place.wait_for("test 6.12-auto")
    place.wait(lambda: len(list((place.out / "parts").glob("*.zst"))) == 1)
    first.kill()
    place.worker("second")
    place.go()
    code, output = place.ended(client)
    assert code == 0, output
    found = place.results()
    once(found, 2)
    assert [cell.host for cell in found.cells] == ["first", "second"]
    assert place.count("boot 6.1-amd64") == 1


def test_a_cluster_without_a_worker(place: Place) -> None:
    """Its cells are NOT_RUN with the reason; Dask would wait for a worker for ever."""
    place.matrix("6.1")
    place.environment = {"FAKE_DEADLINES": '{"WORKER_BACK_S": 1}'}
    place.scheduler()
    code, output = place.ended(place.client("--test", "truth.open"))
    assert code == 4, output
    (cell,) = place.results().cells
    assert (cell.verdict, cell.reason) == (Verdict.NOT_RUN, "the cluster has no worker that can be used")


def test_a_scheduler_that_hangs(place: Place, tmp_path: Path) -> None:
    """The run ends with what has results, although no connection was lost; no machine stays.

    A worker that is not ready keeps a request of the client open.
    """
    place.matrix("6.1", "6.12")
    place.script = {"6.12-auto::truth.open": "hold"}
    place.environment = {"FAKE_DEADLINES": '{"SCHEDULER_S": 20}'}
    scheduler = place.scheduler()
    worker = place.worker("only")
    client = place.client("--test", "truth.open")
    place.wait_for("test 6.12-auto")
    place.wait(lambda: len(list((place.out / "parts").glob("*.zst"))) == 1)
    cache = tmp_path / "slow"
    (cache / "fim-harness/parts").mkdir(parents=True, mode=0o700)
    with locks.locked(cache / "fim-harness/parts/lock"):  # which the plugin waits for
        place.environment["XDG_CACHE_HOME"] = str(cache)
        asked = place.output(scheduler).count("slow")
        place.worker_later("slow")
        place.wait(lambda: place.output(scheduler).count("slow") > asked)
        scheduler.send_signal(signal.SIGSTOP)
        code, output = place.ended(client)
    assert code == 4, output
    assert "Traceback" not in output
    assert "the scheduler of the cluster does not answer" in output
    assert f"harness run --resume {place.out}" in output
    assert place.results().totals == {Verdict.PASS: 1, Verdict.NOT_RUN: 1}
    code, output = place.ended(place.client("--test", "truth.open", "--output", "other"))
    assert code == 3, output
    assert "no scheduler answers at tls://127.0.0.1:" in output
    worker.send_signal(signal.SIGINT)
    worker.wait()
    assert not any(map(exists, place.pids("boot")))


def test_a_worker_that_hangs(place: Place) -> None:
    """Its machine runs again elsewhere; its nanny kills it, which ends its own execution of this machine."""
    place.matrix("6.1", "6.12")
    place.script = {"*::truth.open": "hold"}
    place.environment = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s"}
    place.scheduler()
    hung = place.worker("hung")
    client = place.client("--test", "truth.open")
    place.wait_for("test 6.1-auto")
    place.worker("other")
    place.wait_for("test 6.12-auto")
    stopped = worker_of(hung)
    os.kill(stopped, signal.SIGSTOP)
    place.wait(lambda: "on hung was lost" in place.output(client))
    place.go()
    code, output = place.ended(client)
    assert code == 0, output
    found = place.results()
    once(found, 2)
    assert [(cell.host, len(cell.attempts)) for cell in found.cells] == [("other", 2), ("other", 1)]
    place.wait(lambda: not exists(stopped))
    place.wait(lambda: not any(map(exists, place.pids("boot"))))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_worker_whose_disk_is_full(place: Place, tmp_path: Path) -> None:
    """Each machine that it cannot store runs on the other worker, and it gets no more after two."""
    place.matrix("5.10", "6.1", "6.12", "6.18")
    place.script = {"5.10-auto::truth.open": "hold"}
    place.scheduler()
    place.worker("good")
    client = place.client("--test", "truth.open")
    place.wait_for("test 5.10-auto")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g,nr_inodes=30", "full", disk], check=True)
    try:
        place.environment = {"XDG_CACHE_HOME": str(disk)}
        full = place.worker("full")
        place.wait(lambda: "worker full" in place.output(client) and "gets no work" in place.output(client))
        place.go()
        code, output = place.ended(client)
        full.send_signal(signal.SIGINT)
        full.wait()
    finally:
        subprocess.run(["umount", disk], check=True)
    assert code == 0, output
    found = place.results()
    once(found, 4)
    assert {cell.host for cell in found.cells} == {"good"}
    assert sorted(len(cell.attempts) for cell in found.cells) == [1, 1, 2, 2]
    assert output.count("on full: its run ended with exit code") == 2
    (note,) = (note for note in found.run.notes if "gets no work" in note)
    assert note.startswith(
        f"worker full-{full.pid}-0 on full gets no work: it lost 2 machines in a row, last "
    )


def test_a_worker_that_dies_while_it_looks_at_its_host(place: Place, tmp_path: Path) -> None:
    """Neither it nor its successor, which is not ready, keeps the run from its results."""
    place.matrix("6.1", "6.12")
    scheduler = place.scheduler()
    place.worker("sound")
    cache = tmp_path / "slow"
    (cache / "fim-harness/parts").mkdir(parents=True, mode=0o700)
    place.environment = {"XDG_CACHE_HOME": str(cache)}
    with locks.locked(cache / "fim-harness/parts/lock"):  # which the plugin waits for
        doomed = place.worker("doomed")
        client = place.client("--test", "truth.open")
        place.wait(lambda: "Registering Worker plugin harness" in place.output(scheduler))
        os.kill(worker_of(doomed), signal.SIGKILL)
        code, output = place.ended(client)
    assert code == 0, output
    found = place.results()
    once(found, 2)
    assert {cell.host for cell in found.cells} == {"sound"}


def test_a_client_that_dies_leaves_no_machine(place: Place) -> None:
    """The scheduler forgets its tasks, the worker ends the child, and the folder can be resumed."""
    place.matrix("6.1", "6.12")
    place.script = {"6.12-auto::truth.open": "hold"}
    place.scheduler()
    place.worker("only")
    client = place.client("--test", "truth.open")
    place.wait_for("test 6.12-auto")
    client.kill()
    place.wait(lambda: not any(map(exists, place.pids("boot"))))
    place.go()
    code, output = place.ended(place.run("--resume", "out", "--keys", str(place.keys)))
    assert code == 0, output
    once(place.results(), 2)


def test_what_cannot_be_connected(place: Place, tmp_path: Path) -> None:
    """A scheduler that is absent, or has other keys: one line with a hint, and exit 3."""
    place.matrix("6.1")
    scheduler = place.scheduler()
    other = tmp_path / "other"
    keys.make(other)
    stranger = place.run("--cluster", str(place.scheduler_file), "--keys", str(other), "--output", "out")
    worker = place.worker("stranger", "--keys", str(other))
    code, output = place.ended(stranger)
    assert code == 3, output
    assert "no scheduler answers at tls://127.0.0.1:" in output
    assert "certificate" in output.lower()
    code, output = place.ended(worker)
    first, *error = output.splitlines()
    assert first.startswith("harness: connecting to tls://127.0.0.1:")
    assert (code, len(error)) == (3, 2), output
    assert error[1].startswith("hint: ")
    scheduler.kill()
    scheduler.wait()
    code, output = place.ended(place.client())
    assert code == 3, output
    # The last attempt is refused, or cut off by the deadline of all attempts.
    assert re.search("Connection refused|Timed out", output.splitlines()[-2]), output
    assert not place.out.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_a_worker_whose_network_is_cut(place: Place) -> None:
    """Its machine runs again elsewhere, its own execution ends, and so does its `harness worker`."""
    place.matrix("6.1", "6.12")
    place.script = {"*::truth.open": "hold"}
    place.environment = {
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "20s",
    }
    with network(os.getpid()) as (prefix, address, cut):
        place.scheduler(host=address)
        far = place.worker("far", prefix=prefix)
        client = place.client("--test", "truth.open")
        place.wait_for("test 6.1-auto")
        place.worker("near")
        place.wait_for("test 6.12-auto")
        cut()
        place.wait(lambda: "on far was lost" in place.output(client))
        first = place.pids("boot 6.1-amd64")[0]
        place.wait(lambda: not exists(first))
        place.go()
        code, output = place.ended(client)
        assert code == 0, output
        assert place.ended(far)[0] == 3
    found = place.results()
    once(found, 2)
    assert [(cell.host, len(cell.attempts)) for cell in found.cells] == [("near", 2), ("near", 1)]


@contextlib.contextmanager
def network(number: int) -> Iterator[tuple[tuple[str, ...], str, Callable[[], object]]]:
    """Make a namespace with a link to this one; yield how to enter it, an address here, and how to cut it."""
    name, here, there = f"far{number}", f"h{number}", f"n{number}"
    net = f"10.{200 + number % 50}.{number // 50 % 250}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{net}.1/24", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{net}.2/24", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield ("ip", "netns", "exec", name), f"{net}.1", lambda: ip("link", "set", here, "down")
    finally:
        subprocess.run(["ip", "link", "del", here], check=False)
        ip("netns", "del", name)
