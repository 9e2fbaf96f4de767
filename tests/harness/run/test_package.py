"""A suite installs no Debian package that was made before the agent changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import harness.lab.lab
from harness import cli
from harness.errors import ConfigError
from harness.plan import checked
from harness.plan.plan import Plan, Selectors, make
from harness.results import results_file
from harness.run import package
from harness.run.fake import FakeBench

DEB = "build/deb/fim-agent_1_amd64.deb"
FILES = (
    *("agent/cli.py", "agent/selftest/generator/main.c", "bpf/fim.bpf.c", "build/fim.bpf.o"),
    *("build/rules_tables.py", "packaging/deb/postinst", "packaging/fim-agent.service", "docs/rules.md", DEB),
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree in which `make deb` was run, whose matrix has a suite that installs the package."""
    monkeypatch.setattr(package, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    suite = "{name: service, files: ['build/deb/*_amd64.deb'], command: [sh]}"
    (tmp_path / "matrix.yaml").write_text(f"kernels: ['6.1']\nsuites: [{suite}]\n")
    package.record(tmp_path / DEB)
    return tmp_path


def plan(root: Path) -> Plan:
    return make(checked.load(root / "matrix.yaml"), Selectors())


def test_a_package_of_the_present_agent_is_known_by_its_sources(root: Path) -> None:
    """Its pages decide nothing that a suite could see, and bytecode is made while the harness runs."""
    before = package.check(plan(root), root)
    assert before == package.sources()
    (root / "docs/rules.md").write_text("other")
    (root / "agent/cli.cpython-311.pyc").touch()
    assert package.check(plan(root), root) == before


@pytest.mark.parametrize(
    "change",
    [
        *[lambda root, name=name: (root / name).write_text("other") for name in FILES if "docs" not in name],
        lambda root: (root / "agent/more.py").touch(),
        lambda root: (root / f"{DEB}{package.RECORD}").unlink(),
        lambda root: shutil.copy(root / DEB, root / "build/deb/fim-agent_0_amd64.deb"),
    ],
)
def test_another_package_is_refused(root: Path, change: Callable[[Path], object]) -> None:
    """Whether the agent, what was compiled, a script of the package, or the package itself is another one."""
    change(root)
    with pytest.raises(ConfigError, match="not made from the agent as it is now") as caught:
        package.check(plan(root), root)
    assert caught.value.hint == "run `make deb`"


def test_a_package_of_the_user_is_not_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `make deb` of this tree makes packages with a record."""
    (root / f"{DEB}{package.RECORD}").unlink()
    monkeypatch.setattr(package, "ROOT", root / "other")
    assert package.check(plan(root), root) == ""


def test_the_command_refuses_it_before_anything_boots(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results of a run name the package that was tested."""
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench({}))
    assert cli.main(["run", "-n", "0", "--output", "out"]) == 0
    assert results_file.load(root / "out/results.json").run.package_digest == package.sources()
    (root / "bpf/fim.bpf.c").write_text("other")
    assert cli.main(["run", "-n", "0", "--output", "out"]) == 2
    printed = capsys.readouterr().err
    assert f"{DEB}: not made from the agent as it is now" in printed
    assert "run `make deb`" in printed
