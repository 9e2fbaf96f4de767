"""Shell completion: bash and zsh offer the commands, options and values of both programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

BIN = Path(sys.executable).parent

# Completes $LINE as the shell does, and prints what it would offer.
BASH = """
eval "$(register-python-argcomplete harness agent)"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
_python_argcomplete ${LINE%% *}
printf '%s\\n' "${COMPREPLY[@]}"
"""
# zsh completes only inside its editor: the variables of the editor and the function that shows are replaced.
ZSH = """
autoload -Uz compinit && compinit -D -u
eval "$(register-python-argcomplete harness agent)"
_describe() { print -rl -- "${(@P)2}" }
words=(${(z)LINE}) BUFFER=$LINE CURSOR=${#LINE}
_python_argcomplete
"""


def offered(shell: str, line: str) -> set[str]:
    argv = ["bash", "--norc", "-c", BASH] if shell == "bash" else ["zsh", "-f", "-c", ZSH]
    environment = {**os.environ, "LINE": line, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment["ARGCOMPLETE_USE_TEMPFILES"] = "1"  # pytest may have the file descriptor of the usual way
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    # zsh offers each word with a description after a colon.
    return {entry.partition(":")[0].strip() for entry in done.stdout.splitlines()} - {""}


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not shutil.which(name):
        pytest.skip(f"no {name} on PATH")
    return name


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("harness ru", {"run"}),
        ("harness kernels l", {"list", "lock"}),
        ("harness kernels lock --u", {"--update"}),
        ("harness run --hookset kprobe", {"kprobe", "kprobe-multi"}),
        ("harness run --cold --kernel 6.12-", {"6.12-rt", "6.12-generic"}),
        ("harness run --accelerator k", {"kvm"}),
        ("harness run --test truth.ope", {"truth.open"}),
        ("harness run --output ", set()),
        ("agent sel", {"selftest"}),
        ("agent run --rul", {"--rules"}),
    ],
)
def test_what_is_offered(shell: str, line: str, offers: set[str]) -> None:
    """Commands, options and known values; nothing for a file name, which the shell completes."""
    assert offered(shell, line) == offers


def test_without_argcomplete_the_agent_offers_nothing() -> None:
    """It must not run the unfinished command line instead."""
    code = "import sys; sys.modules['argcomplete'] = None; from agent import cli; cli.main(['probe'])"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": "agent probe", "COMP_POINT": "11"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
