"""Only locked dependencies are installed: each by version and by the hashes of its files."""

from __future__ import annotations

import re
import tomllib

from tests import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PINS = re.findall(r"(?m)^([a-z0-9-]+)==(\S+).*?\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LOCK)


def test_every_line_is_a_pin_with_hashes() -> None:
    """Otherwise pip refuses the whole file."""
    names = re.findall(r"(?m)^([A-Za-z0-9_.-]+)", LOCK)
    assert names == [name for name, _, _ in PINS]
    assert len(names) == len(set(names)) > 40


def test_every_dependency_is_locked() -> None:
    """After a new dependency `make lock` writes the file again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("_", "-") for one in wanted}
    assert names - {name for name, _, _ in PINS} == set()


def test_compiled_packages_have_files_for_each_python() -> None:
    """A version has the hashes of many files: a wheel for each Python, or a source package."""
    counts = {name: hashes.count("--hash") for name, _, hashes in PINS}
    assert all(counts[name] > 10 for name in ("cffi", "pydantic-core", "rpds-py", "pyyaml", "zstandard"))
