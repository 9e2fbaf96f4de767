"""What may happen to the processes of a cluster: every machine of the plan ends in exactly one result."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from harness.cluster import keys
from harness.results.verdict import Verdict
from tests.harness.cluster.place import Place, exists, once


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
    assert "not the folder of a run with --cluster" in output


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
    assert "Connection refused" in output.splitlines()[-2]
    assert not place.out.exists()
