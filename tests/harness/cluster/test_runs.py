"""`harness run --cluster` in processes of its own, with fake machines that follow a script."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import tarfile
from pathlib import Path
from typing import Any

from harness.cluster import connect, part
from harness.cluster.connect import Spec
from harness.results.model import Results
from harness.results.verdict import Verdict
from tests.harness.cluster.place import Place, exists, once
from tests.harness.run import played

KNOWN = """
expected_failures:
- {test: truth.open, when: {kernel: "5.10"}, reason: known, link: "somewhere", until: 2099-01-01}
- {test: truth.exec, reason: never seen, link: "somewhere", until: 2099-01-01}
"""


def plain(found: Results) -> dict[str, Any]:
    """Results without times, hosts, and the name of the run."""
    data: dict[str, Any] = json.loads(found.to_json())
    for name in ("id", "started", "duration_s", "argv", "host", "hosts"):
        del data["run"][name]
    for cell in data["cells"]:
        del cell["host"]
        cell["phases"] = {"start": cell["phases"]["start"]}
        for entry in (*cell["attempts"], *(test for test in cell["tests"])):
            del entry["duration_s"]
        for attempt in (attempt for test in cell["tests"] for attempt in test["attempts"]):
            del attempt["duration_s"]
    return data


def test_a_run_on_a_cluster_has_the_results_of_a_local_one(place: Place) -> None:
    """With every kind of verdict, except for times and hosts; each cell names its host."""
    place.matrix("5.10", "6.1", "6.12", "6.18")
    place.script = {
        "5.10-auto::truth.open": "fail",
        "5.10-auto::truth.unlink": "skip",
        "6.1-auto::truth.open": "splat",
        "6.1-auto::end": "leak",
        "6.12-auto::load": "refuse",
        "6.18-auto::truth.open": "crash",
    }
    (place.folder / "expectations.yaml").write_text(KNOWN)
    words = ("--test", "truth.open", "--test", "truth.unlink", "--output", "out")
    local = place.ended(place.run("-n", "0", *words))
    expected = place.results()
    code, output = place.ended(place.run("--cluster", "local:2", *words))
    assert (code, local[0]) == (1, 1), output
    found = place.results()
    assert plain(found) == plain(expected)
    assert {cell.host for cell in found.cells} == {host.name for host in found.run.hosts}
    assert not (place.out / "parts").exists()
    assert (place.out / "cells/6.1-auto/console.log").exists()
    assert "6.18-auto  truth.open  ✗ CRASH" in output


def test_two_clusters_on_one_host(place: Place) -> None:
    """The port that Dask takes for its dashboard may be taken: nothing is printed about it."""
    place.matrix("6.1")
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # another program has it already
            other.bind(("127.0.0.1", 8787))
            other.listen()
        code, output = place.ended(
            place.run("--cluster", "local:1", "--output", "out", "--test", "truth.open")
        )
    assert code == 0, output
    assert "8787" not in output


def test_a_complete_run_is_not_run_again(place: Place) -> None:
    """`--resume` prints its results; what would be ignored is refused."""
    place.matrix("6.1", "6.12")
    place.script = {"6.12-auto::truth.open": "fail"}
    code, output = place.ended(place.run("--cluster", "local:1", "--output", "out", "--test", "truth.open"))
    assert code == 1, output
    before = place.results()
    code, output = place.ended(place.run("--resume", "out"))
    assert code == 1, output
    assert "6.12-auto" in output
    assert place.results() == before
    assert place.count("boot") == 2
    code, output = place.ended(place.run("--resume", "out", "--accelerator", "tcg"))
    assert code == 2, output
    assert "--accelerator: not with --resume of a run with --cluster" in output


def test_a_signal_ends_all_children(place: Place) -> None:
    """Also those of tasks that Dask cannot cancel; what ended has its results, and the rest is NOT_RUN."""
    place.matrix("6.1", "6.12", "6.18")
    place.script = {"*::truth.unlink": "sleep"}
    process = place.run(
        "--cluster", "local:2", "--output", "out", "--test", "truth.open", "--test", "truth.unlink"
    )
    place.wait(lambda: place.output(process).count("truth.open  ✓ PASS") == 2)
    place.wait_for("truth.unlink", 2)
    process.send_signal(signal.SIGINT)
    code, output = place.ended(process)
    assert code == 4, output
    found = place.results()
    once(found, 3)
    assert found.totals == {Verdict.PASS: 2, Verdict.NOT_RUN: 4}
    place.wait(lambda: not any(map(exists, place.pids("boot"))))
    # The machine that a worker had prepared may start when the signal ends the one before it.
    assert place.count("destroy") == place.count("boot") <= 3


def test_a_cell_that_no_worker_can_take_is_not_run_at_once(place: Place) -> None:
    """With the reason, although Dask would wait for such a worker for ever."""
    place.matrix("6.1")
    code, output = place.ended(
        place.run("--cluster", "local:1", "--output", "out", "--test", "truth.open", "--accelerator", "kvm")
    )
    assert code == 4, output
    (cell,) = place.results().cells
    assert (cell.verdict, cell.reason) == (Verdict.NOT_RUN, "no worker has KVM for amd64 guests")
    assert place.count("boot") == 0


def test_a_machine_that_kills_its_workers_is_infra(place: Place) -> None:
    """It names both workers, and costs no other machine, not even one that they had prepared."""
    place.matrix("6.1", "6.12", "6.18", "7.1")
    place.script = {"6.1-auto::truth.open": "kill-parent"}
    code, output = place.ended(place.run("--cluster", "local:2", "--output", "out", "--test", "truth.open"))
    assert code == 3, output
    found = place.results()
    once(found, 4)
    lost, *good = found.cells
    assert {(cell.verdict, len(cell.attempts)) for cell in good} == {(Verdict.PASS, 1)}
    assert lost.verdict is Verdict.INFRA
    assert lost.reason.count("was lost") == 2
    assert place.count("test 6.1-auto") == 2
    place.wait(lambda: not any(map(exists, place.pids("boot"))))


def test_a_worker_whose_canary_fails_gets_no_work(place: Place) -> None:
    """The notes of the run name it."""
    place.matrix("6.1", "6.12")
    place.scheduler()
    place.script = {"bench::accelerator": "broken"}
    sick = place.worker("sick")
    place.script = {}
    place.worker("sound")
    code, output = place.ended(place.client("--test", "truth.open"))
    assert code == 0, output
    found = place.results()
    once(found, 2)
    assert {cell.host for cell in found.cells} == {"sound"}
    (note,) = (note for note in found.run.notes if "gets no work" in note)
    assert note.startswith(f"worker sick-{sick.pid}-0 on sick gets no work: its canary failed: amd64: ")


def test_a_plain_worker_of_dask_can_be_used(place: Place) -> None:
    """With one thread it has no next machine, and gets it when it has returned the one before."""
    place.matrix("6.1", "6.12", "6.18")
    place.scheduler()
    place.dask_worker()
    code, output = place.ended(place.client("--test", "truth.open"))
    assert code == 0, output
    once(place.results(), 3)
    assert place.count("boot") == 3


def test_a_worker_is_one_slot_without_a_limit_of_memory(place: Place) -> None:
    """Dask would pause or kill a worker whose children need memory, and run more than one machine there."""
    place.scheduler()
    place.worker("only", "--slots", "2")
    address = json.loads(place.scheduler_file.read_text())["address"]
    with connect.connected(Spec(address=address, keys=place.keys), played.__name__) as client:
        workers = client.scheduler_info()["workers"].values()
    assert [(one["memory_limit"], one["resources"]["machine"]) for one in workers] == [(0, 1), (0, 1)]
    assert len({one["name"] for one in workers}) == 2


def test_files_of_a_suite_are_sent_once_to_a_host(place: Place, tmp_path: Path) -> None:
    """By their digest, and both machines use them."""
    (place.folder / "hello.sh").write_text("#!/bin/sh\n")
    (place.folder / "matrix.yaml").write_text(
        'kernels: ["6.1", "6.12"]\nsuites:\n- {name: hello, files: [hello.sh], command: [./hello.sh]}\n'
    )
    place.scheduler()
    place.environment = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    place.worker("far")
    place.environment = {}
    code, output = place.ended(place.client("--test", "command.hello"))
    assert code == 0, output
    once(place.results(), 2)
    (blob,) = (tmp_path / "other/fim-harness/blobs").glob("*/content/blob")
    assert blob.parents[1].name == part.digest(blob.read_bytes())
    with tarfile.open(blob) as tar:
        assert tar.getnames() == ["hello.sh"]
