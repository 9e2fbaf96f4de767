"""The command line: its options, the cost of its start, and its errors."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from agent import __version__, cli
from agent.cli import COMMANDS, main
from agent.commands import probe
from agent.commands import run as run_command
from agent.errors import AgentError
from agent.kernel import causes
from agent.kernel.capabilities import Capability
from agent.selftest.catalogue import CATALOGUE
from agent.service.options import RunOptions
from tests import ROOT


def agent(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_explains_itself(command: cli.Command) -> None:
    done = agent(command.name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: agent {command.name}")
    assert "--debug" in done.stdout


def test_the_list_of_commands_is_complete() -> None:
    done = agent("--help")
    assert all(f"    {command.name} " in done.stdout for command in COMMANDS)


def test_the_version_is_that_of_the_project() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert agent("--version").stdout == f"agent {__version__}\n"


def test_only_the_named_command_is_imported() -> None:
    code = (
        "import sys, agent.cli\n"
        "agent.cli.main(['selftest', '--list'])\n"
        "heavy = ('agent.kernel', 'agent.rules', 'agent.commands.', 'ctypes', 'yaml', 'lark', 'subprocess')\n"
        "found = {name for name in sys.modules if name.startswith(heavy)}\n"
        "print(sorted(found - {'agent.commands.selftest'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_error_is_one_line_with_a_hint() -> None:
    families = ", ".join(sorted({f"{scenario.family}.*" for scenario in CATALOGUE}))
    done = agent("selftest", "--test", "trooth.*")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "agent: no scenario matches 'trooth.*'",
        f"hint: families: {families}",
    ]


@pytest.mark.parametrize(
    "words", [("--debug", "selftest", "--test", "trooth.*"), ("selftest", "--test", "trooth.*", "--debug")]
)
def test_debug_prints_the_traceback(words: tuple[str, ...]) -> None:
    done = agent(*words)
    assert "Traceback" in done.stderr
    assert "agent.errors.UsageError" in done.stderr


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt(), 130), (AgentError("no"), 1)])
def test_every_error_has_an_exit_code(
    raised: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise raised

    monkeypatch.setattr("agent.commands.explain.run", fail)
    assert main(["explain", "rules.yaml"]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_prints_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m agent selftest --list | head -0; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def options(*words: str) -> RunOptions:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.options_of(parser.parse_args(words))


def test_run_has_the_defaults_of_its_options() -> None:
    assert options("--rules", "a.yaml") == RunOptions(rules=(Path("a.yaml"),))


def test_run_takes_every_option() -> None:
    found = options(
        *("--rules", "a.yaml", "b", "--output", "", "--otlp", "http://127.0.0.1:4318"),
        *("--otlp-header", "a=b", "--otlp-header", "c=d=e", "--spool", "/s", "--spool-bytes", "7"),
        *("--rate-limit", "2.5", "--burst", "3", "--hash-changed", "--hash-max-bytes", "9"),
        *("--metrics-port", "9464", "--control", "/c", "--hookset", "lsm", "--btf", "external"),
        *("--transport", "perf", "--keep-privileges", "--bad-rules", "leave-out"),
    )
    assert found == RunOptions(
        rules=(Path("a.yaml"), Path("b")),
        output="",
        otlp="http://127.0.0.1:4318",
        otlp_headers={"a": "b", "c": "d=e"},
        spool=Path("/s"),
        spool_bytes=7,
        rate_limit=2.5,
        burst=3,
        hash_changed=True,
        hash_max_bytes=9,
        metrics_port=9464,
        control=Path("/c"),
        hookset="lsm",
        btf="external",
        transport="perf",
        keep_privileges=True,
        bad_rules="leave-out",
    )


def test_a_header_without_a_value_is_an_error() -> None:
    done = agent("run", "--rules", "a", "--otlp-header", "naked")
    assert done.returncode == 2
    assert "invalid header 'naked' (use NAME=VALUE)" in done.stderr


def test_probe_prints_states_and_error_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each kind, and the end of the kernel's message; this host's own settings are left out."""
    monkeypatch.setattr(causes, "_CAUSES", ())
    words = "\n".join(f"line {number}" for number in range(20))
    lines = list(probe.table({"fentry": Capability("fires"), "lsm": Capability("load-fail", words)}))
    assert lines[:2] == ["fentry         fires", "lsm            load-fail"]
    assert lines[3:5] == ["lsm:", "    line 8"]
    assert lines[-1] == "    line 19"
