"""The tree is formatted, lint-free, typed, and its files and functions are short: each linter is a test."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

SOURCE = {".py", ".c", ".h", ".sh", ".yml", ".yaml", ".md", ".j2", ".toml", ".lark", ".service"}


def tracked(*suffixes: str) -> list[Path]:
    """Return the files that git tracks with these suffixes, as absolute paths."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in names.splitlines()]
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_ruff(arguments: tuple[str, ...]) -> None:
    """Ruff finds nothing, also in the format."""
    done = run(sys.executable, "-m", "ruff", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy() -> None:
    """Every package and every test is typed, strictly."""
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_clang_format() -> None:
    """C code is in kernel style, as .clang-format describes it."""
    formatter = shutil.which("clang-format")
    assert formatter, "clang-format is missing: run `make setup`"
    files = [str(path) for path in tracked(".c", ".h")]
    done = run(formatter, "--dry-run", "--Werror", *files)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", tracked(".py", ".c", ".h"), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path: Path) -> None:
    """No source file is over 500 lines."""
    assert len(path.read_text().splitlines()) <= 500


def test_functions_are_short() -> None:
    """No function of either program is over 45 lines."""
    paths = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in ("agent", "harness")]
    lengths = {place: length for path in paths for place, length in _functions(path)}
    assert len(lengths) > 1000
    assert [place for place, length in lengths.items() if length > 45] == []


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Return each function of a file with its number of lines, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            written = ast.get_docstring(node, clean=False)
            docstring_lines = written.count("\n") + 1 if written is not None else 0
            yield (
                f"{path.relative_to(ROOT)}:{node.lineno}",
                (node.end_lineno or 0) - node.lineno + 1 - docstring_lines,
            )


def test_no_hosts_and_no_machine_paths() -> None:
    """The tree names no mirror and no path of a machine; mirrors come from the host's configuration."""
    host = re.compile(r"https?://[\w.-]*(?:debian|ubuntu|pypi|pythonhosted|npmjs)[\w.-]*\.(?:org|com)")
    checkout = f"{ROOT}/"
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(*SOURCE)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if host.search(line) or checkout in line
    ]
    assert offenders == []
