"""The command `harness` in its own process, with fake machines that follow a script; also a pytest plugin."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.host import deadlines
from harness.run.fake import FakeBench


def bench(*_words: Any, **_more: Any) -> FakeBench:
    return FakeBench(json.loads(os.environ["FAKE_SCRIPT"]), Path(os.environ["FAKE_LOG"]))


def pytest_harness_bench() -> FakeBench:
    return bench()


def main() -> int:
    import harness.lab.lab
    from harness import cli
    from harness.cluster import child

    for name, seconds in json.loads(os.environ.get("FAKE_DEADLINES", "{}")).items():
        setattr(deadlines, name, seconds)
    harness.lab.lab.VmBench = bench  # type: ignore[assignment, misc]
    child.MODULE = "tests.harness.run.played"  # the workers of a cluster play too
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
