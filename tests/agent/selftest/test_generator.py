"""The generator runs exactly its script, and reports the results of the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.selftest.workload import Workload, WorkloadError, quote

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


def test_a_report_has_the_results_of_the_kernel(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"open {tmp_path}/new O_RDWR|O_CREAT 0640 -> $0\nwrite $0 hello\nclose $0\nunlink {tmp_path}/none\n"
    )
    opened, wrote, closed, refused = outcome.reports
    assert opened.ret >= 3
    assert wrote.ret == 5
    assert closed.ret == 0
    assert (refused.ret, refused.ok, refused.errors) == (-errno.ENOENT, 0, {errno.ENOENT: 1})
    assert (tmp_path / "new").read_text() == "hello"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert outcome.failures == {"unlink:4 errno 2": 1}


def test_a_report_names_the_calling_process(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"mkdir {tmp_path}/a 0755\nfork -> $0\nmkdir {tmp_path}/b 0755\nend\nwait $0\n"
        f"thread\nmkdir {tmp_path}/c 0755\nend\n"
    )
    own, child, thread = outcome.of("mkdir")
    assert (own.pid, own.tid) == (workload.pid, workload.pid)
    assert child.pid == outcome.of("fork")[0].ret
    assert child.ppid == workload.pid
    assert thread.pid == workload.pid != thread.tid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_script_can_change_the_user(workload: Workload, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    outcome = workload.run(f"fork -> $0\nsetuid 65534\nunlink {tmp_path}/x\nend\nwait $0\n")
    assert outcome.of("unlink")[0].uid == 65534


def test_loops_count(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"repeat 7\nmkdir {tmp_path}/d%d 0755\nrepeat 3\nmkdir {tmp_path}/d%d 0755\nend\nend\n"
    )
    outer, inner = outcome.at(2), outcome.at(4)
    assert (outer.ok, outer.failed) == (5, 2)  # d0 is there in time; d1 and d2 come from the inner loop
    assert (inner.ok, inner.errors) == (2, {errno.EEXIST: 19})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"d{n}" for n in range(7)]


def test_a_rate_spreads_the_calls(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(f"rate 211/s for 1s\nunlink {tmp_path}/x\nend\n")
    beat = outcome.at(1)
    assert outcome.at(2).failed == 211
    assert beat.ret == 211
    assert beat.seconds >= 210 / 211  # never early; late only as far as the machine is busy


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(NAMES)
def test_names_are_any_bytes(workload: Workload, tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    outcome = workload.run(f"repeat 1\nmkdir {quote(path)} 0700\nend\n")
    assert outcome.at(2).ok == 1
    Path(os.fsdecode(path)).rmdir()


def test_calls_by_number_of_arguments(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"openat2 AT_FDCWD {tmp_path}/f O_WRONLY|O_CREAT 0600 RESOLVE_NO_SYMLINKS -> $0\nclose $0\n"
        f"renameat2 AT_FDCWD {tmp_path}/f AT_FDCWD {tmp_path}/g NOREPLACE\n"
        f"linkat AT_FDCWD {tmp_path}/g AT_FDCWD {tmp_path}/h\n"
        f"symlink target {tmp_path}/s\n"
        f"truncate {tmp_path}/g 12\n"
        f"utimensat AT_FDCWD {tmp_path}/g 86400\n"
        f"unlinkat AT_FDCWD {tmp_path}/h\n"
    )
    assert not outcome.failures
    assert {path.name for path in tmp_path.iterdir()} == {"g", "s"}
    assert (tmp_path / "g").stat().st_mtime == 86400
    assert (tmp_path / "g").stat().st_size == 12


@pytest.mark.parametrize(
    ("script", "line", "why"),
    [
        ("\nopne /x", 2, "unknown call 'opne'"),
        ("open /x", 1, "missing argument of open"),
        ("unlink /x 1", 1, "extra argument '1' of unlink"),
        ("open /x O_FOO", 1, "not a number or the name of a constant"),
        ("unlink /\\x00", 1, "escape"),
        ("unlink /\\q", 1, "escape"),
        ("unlink /%x", 1, "invalid text after %"),
        ("unlink /%{32}", 1, "to %{31}"),
        ("close $32", 1, "invalid variable"),
        ("close 1 ->", 1, "one variable"),
        ("end", 1, "without a block"),
        ("repeat 2\nclose 9", 3, "without 'end'"),
        ("rate 5 for 2s\nend", 1, "not a number followed by '/s'"),
        ("rate 5/s of 2s\nend", 1, "instead of 'for'"),
        ("repeat 1\n" * 9, 9, "nested more than 8 deep"),
        ("close 9\n" * 4097, 4097, "at most 4096 calls"),
        (f"unlink /{'x' * 20000}", 1, "a line is at most"),
    ],
)
def test_an_invalid_script_is_reported_with_its_line_and_not_run(
    generator: Path, script: str, line: int, why: str
) -> None:
    done = subprocess.run([generator], input=f"{script}\ngo\n", capture_output=True, text=True, check=False)
    hello, error = done.stdout.splitlines()
    assert hello.startswith('{"hello":1,')
    assert why in error
    assert error.endswith(f'"line":{line}}}')
    assert done.returncode == 2


def test_a_wrong_script_is_a_workload_error(workload: Workload) -> None:
    with pytest.raises(WorkloadError, match="line 1 of the script: unknown call 'dance'"):
        workload.run("dance\n")


def test_the_generator_ends_with_its_input(generator: Path) -> None:
    done = subprocess.run([generator], input="", capture_output=True, text=True, check=False)
    assert done.returncode == 0
    cut = subprocess.run([generator], input="close 9\n", capture_output=True, text=True, check=False)
    assert cut.returncode == 2


def test_architectures_without_the_old_calls_have_the_same_language(
    build_generator: Callable[..., Path], tmp_path: Path
) -> None:
    running = Workload(build_generator("-DAT_CALLS_ONLY"))
    outcome = running.run(
        f"mkdir {tmp_path}/d 0755\nopen {tmp_path}/d/f O_WRONLY|O_CREAT 0600 -> $0\nclose $0\n"
        f"rename {tmp_path}/d/f {tmp_path}/d/g\nlink {tmp_path}/d/g {tmp_path}/d/h\n"
        f"symlink g {tmp_path}/d/s\nmknod {tmp_path}/d/p S_IFIFO|0600\nchmod {tmp_path}/d/g 0640\n"
        + "".join(f"unlink {tmp_path}/d/{name}\n" for name in "ghsp")
        + f"rmdir {tmp_path}/d\n"
    )
    running.close()
    assert not outcome.failures
    assert list(tmp_path.iterdir()) == []


def test_a_program_ends_with_its_children(workload: Workload, tmp_path: Path) -> None:
    """Its child blocks on a FIFO until it is killed; the program is reported with its status."""
    outcome = workload.run(
        f"mknod {tmp_path}/fifo S_IFIFO|0600\nprogram one\nfork\nopen {tmp_path}/fifo O_RDONLY\nend\n"
        "exit_group 3\nend\n"
    )
    (program,) = outcome.of("program")
    assert program.status >> 8 == 3
    assert not outcome.of("open")


def test_programs_run_side_by_side(workload: Workload, tmp_path: Path) -> None:
    """Each of two opens the end of a FIFO that the other waits for."""
    outcome = workload.run(
        f"mknod {tmp_path}/fifo S_IFIFO|0600\nbeside\nprogram one\nopen {tmp_path}/fifo O_RDONLY\nend\n"
        f"program two\nopen {tmp_path}/fifo O_WRONLY\nend\nend\n"
    )
    assert [report.ok for report in outcome.of("open")] == [1, 1]
    assert [report.status for report in outcome.of("program")] == [0, 0]
    assert outcome.of("beside")[0].ret == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_program_has_a_user(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(f"program one 65534\nunlink {tmp_path}/x\nend\nunlink {tmp_path}/x\n")
    assert [(report.uid, report.gid) for report in outcome.of("unlink")] == [(65534, 65534), (0, 0)]


def test_special_words_are_null_unreadable_and_empty(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"open @bad O_RDONLY\nopen @null O_RDONLY\n"
        f"open {tmp_path} O_PATH -> $1\nopen {tmp_path} O_PATH -> $2\n"
        f'openat $1 "" O_PATH\nutimensat $1 @null now\nopen /proc/self/fd/%{{2}} O_RDONLY\n'
    )
    errors = [errno.EFAULT, errno.EFAULT, 0, 0, errno.ENOENT, errno.EBADF, 0]
    assert [max(0, -report.ret) for report in outcome.reports] == errors


def test_descriptors_are_passed_over_a_socket(workload: Workload, tmp_path: Path) -> None:
    """Within a process, and from a parent to a child that has closed its own."""
    outcome = workload.run(
        f"open {tmp_path}/f O_WRONLY|O_CREAT 0600 -> $0\npass $0 -> $1\nclose $0\nwrite $1 one\n"
        "socketpair -> $2\nfork -> $9\nclose $1\nrecv_fd $3 -> $4\nwrite $4 two\nend\n"
        "send_fd $2 $1\nwait $9\n"
    )
    assert not outcome.failures
    assert (tmp_path / "f").read_text() == "onetwo"


def test_32_bit_calls_take_paths_numbers_and_times(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"creat32 {tmp_path}/f 0600 -> $0\nclose32 $0\nutime32 {tmp_path}/f 86400\n"
        f"mknod32 {tmp_path}/p S_IFIFO|0600\n"
        f"utimensat32 AT_FDCWD {tmp_path}/p 86401\nlinkat32 AT_FDCWD {tmp_path}/f AT_FDCWD {tmp_path}/g\n"
        f"openat2_32 AT_FDCWD {tmp_path}/g O_RDONLY\ntruncate64 {tmp_path}/f 7\n"
    )
    if outcome.at(1).errors == {errno.ENOSYS: 1}:
        pytest.skip("this architecture has no 32-bit calls")
    assert not outcome.failures
    assert (tmp_path / "f").stat().st_size == 7
    assert (tmp_path / "p").stat().st_mtime == 86401
    assert (tmp_path / "f").stat().st_nlink == 2
