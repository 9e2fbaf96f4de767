"""Shell completion: made from the programs' own arguments, and it completes in bash and in zsh."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

FOLDER = ROOT / "packaging/completions"

# Completes the last of the words as a shell does, and prints what it would offer.
_ASK = """
source {file}
COMP_WORDS=({words})
COMP_CWORD={last}
_{program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offered(shell: str, program: str, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in (program, *words))
    text = _ASK.format(file=FOLDER / program, words=quoted, last=len(words), program=program)
    if shell == "zsh":  # zsh counts from 1 unless told otherwise, and has `complete` only with bashcompinit
        text = f"autoload -Uz compinit && compinit -D -u; setopt ksh_arrays sh_word_split no_nomatch\n{text}"
    no_startup_files = {"bash": ("--norc",), "zsh": ("-f",)}[shell]
    done = subprocess.run(
        [shell, *no_startup_files, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    # bash leaves it to the script to fit the word that is there, zsh does that itself.
    return {word for word in done.stdout.split() if shell == "bash" or word.startswith(words[-1])}


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not shutil.which(name):
        pytest.skip(f"no {name} on PATH")
    return name


def test_both_files_are_up_to_date(tmp_path: Path) -> None:
    """`make docs` would change nothing."""
    made = subprocess.run([sys.executable, ROOT / "packaging/completion.py", tmp_path], check=False)
    assert made.returncode == 0
    for name in ("harness", "agent"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text(), "out of date: run `make docs`"


@pytest.mark.parametrize(
    ("program", "words", "offers"),
    [
        ("harness", ("ru",), {"run"}),
        ("harness", ("kernels", "l"), {"list", "lock"}),
        ("harness", ("kernels", "lock", "--u"), {"--update"}),
        ("harness", ("run", "--hookset", "kprobe"), {"kprobe", "kprobe-multi"}),
        ("harness", ("run", "--cold", "--kernel", "5."), {"5.10"}),
        ("harness", ("run", "--test", "tr"), {"truth.*"}),
        ("harness", ("run", "--output", ""), set()),
        ("agent", ("sel",), {"selftest"}),
        ("agent", ("run", "--rul"), {"--rules"}),
    ],
)
def test_what_is_offered(shell: str, program: str, words: tuple[str, ...], offers: set[str]) -> None:
    """Commands, options and known values; where only a file makes sense nothing: the shell offers files."""
    assert offered(shell, program, *words) == offers
