"""Only locked dependencies are installed: each by version and by the hashes of its files."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests import ROOT

LOCKS = {name: (ROOT / name).read_text() for name in ("requirements.lock", "requirements-cluster.lock")}


def pins(lock: str) -> list[tuple[str, str, str]]:
    """Return name, version and hashes of each package of a lock."""
    pattern = r"(?m)^([a-z0-9-]+)==(\S+).*?\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
    return re.findall(pattern, LOCKS[lock])


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_with_hashes(lock: str) -> None:
    """Otherwise pip refuses the whole file."""
    names = re.findall(r"(?m)^([A-Za-z0-9_.-]+)", LOCKS[lock])
    assert names == [name for name, _, _ in pins(lock)]
    assert len(names) == len(set(names)) > 10


def test_the_locks_have_the_same_versions() -> None:
    """Both are installed into one environment."""
    first, second = ({name: version for name, version, _ in pins(lock)} for lock in LOCKS)
    assert {name: first[name] for name in first.keys() & second} == {
        name: second[name] for name in first.keys() & second
    }


def test_every_dependency_is_locked() -> None:
    """After a new dependency `make lock` writes the file again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert "cluster" in extras
    for extra, wanted in {"": project["dependencies"], **extras}.items():
        lock = "requirements-cluster.lock" if extra == "cluster" else "requirements.lock"
        names = {re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("_", "-") for one in wanted}
        assert names - {name for name, _, _ in pins(lock)} == set()


def test_compiled_packages_have_files_for_each_python() -> None:
    """A version has the hashes of many files: a wheel for each Python, or a source package."""
    counts = {name: hashes.count("--hash") for name, _, hashes in pins("requirements.lock")}
    assert all(counts[name] > 10 for name in ("cffi", "pydantic-core", "rpds-py", "pyyaml", "zstandard"))
