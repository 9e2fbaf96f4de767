"""A file that a user names is read up to a limit, and only if it is a regular file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import cli
from harness.errors import ConfigError
from harness.host import files
from harness.kernels import lock
from harness.results import expectations, results_file
from harness.run import times


def test_a_file_that_is_not_regular_is_an_error(tmp_path: Path) -> None:
    """Reading never waits for a writer and never reads a device without end."""
    os.mkfifo(tmp_path / "fifo")
    for path, reason in ((tmp_path / "fifo", "not a regular"), (Path("/dev/zero"), "not a regular")):
        with pytest.raises(OSError, match=reason):
            files.read_regular(path, 10)
    with pytest.raises(IsADirectoryError):
        files.read_regular(tmp_path, 10)


def test_a_longer_file_is_an_error(tmp_path: Path) -> None:
    """A file of exactly the limit is allowed."""
    (tmp_path / "file").write_bytes(bytes(1 << 10))
    assert len(files.read_regular(tmp_path / "file", 1 << 10)) == 1 << 10
    with pytest.raises(OSError, match="larger than 0 KiB"):
        files.read_regular(tmp_path / "file", (1 << 10) - 1)


def test_no_input_waits_for_a_fifo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of input file is an error of one line; stored durations count as unknown."""
    fifo = tmp_path / "expectations.yaml"
    os.mkfifo(fifo)
    for read in (expectations.load, lock.load, results_file.load):
        with pytest.raises(ConfigError, match="not a regular file"):
            read(fifo)
    assert times.read_times(fifo) == {}
    for words in (["plan", "--matrix", str(fifo)], ["compare", str(fifo), str(fifo)], ["report", str(fifo)]):
        assert cli.main(words) == 2
        assert "not a regular file" in capsys.readouterr().err
