"""Compiling once a boot, and saying why it cannot be: with a bcc of our own, the real one is in guests."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from agent.commands import probe
from agent.errors import KernelError, UsageError
from agent.hooks import sets
from agent.kernel.bcc import backend
from agent.kernel.capabilities import LOAD_FAIL, Capability
from agent.kernel.loader import Variant

FAILING = """\
import sys


class BPF:
    def __init__(self, text, cflags):
        sys.stderr.write("In file included from main.c:1:\\nfs.h:7:1: error: no such thing\\nmore words\\n")
        raise Exception("Failed to compile BPF module <text>")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bcc that fails, and headers, as if they were installed; returns the folder that bcc lies in."""
    (tmp_path / "lib" / os.uname().release / "build").mkdir(parents=True)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "bcc.py").write_text(FAILING)
    monkeypatch.setattr(backend, "_FOLDER", tmp_path / "run" / "bcc")
    monkeypatch.setattr(backend, "_MODULES", tmp_path / "lib")
    monkeypatch.syspath_prepend(tmp_path / "path")
    return tmp_path / "path"


def test_the_compilers_own_words_are_the_reason(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first complaint in the message, all of it in the detail; then it is known without trying."""
    monkeypatch.setattr(backend, "_PACKAGE", _package(installed))
    with pytest.raises(KernelError, match=r"fs\.h:7:1: error: no such thing") as raised:
        backend.object_path()
    assert "more words" in raised.value.detail
    known = backend.known()
    assert known
    assert known.state == LOAD_FAIL
    assert "no such thing" in known.reason


def test_what_failed_is_not_tried_again_before_the_next_boot(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loading of an agent would take the compiler's minutes."""
    monkeypatch.setattr(backend, "_PACKAGE", _package(installed))
    words = backend.capability().reason
    (installed / "bcc.py").write_text("raise SystemExit('it was tried again')")
    assert backend.capability() == (LOAD_FAIL, words)
    backend.forget()
    assert "it was tried again" in backend.capability().reason


def test_the_compiler_ends_with_the_agent(installed: Path) -> None:
    """It would go on for minutes, for nobody."""
    (installed / "bcc.py").write_text(
        "import os\nprint(os.getpid(), flush=True)\nimport signal\nsignal.pause()\n"
    )
    sources = Path(backend.__file__).resolve().parents[3] / "bpf"
    command = [sys.executable, "-m", "agent.kernel.bcc.compile", str(sources), str(installed / "o")]
    agent = f"import subprocess; subprocess.run({command!r})"
    environment = {**os.environ, "PYTHONPATH": f"{installed}:{sources.parent}"}
    with subprocess.Popen([sys.executable, "-c", agent], env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout
        compiler = os.pidfd_open(int(running.stdout.readline()))
        running.kill()
        assert select.select([compiler], [], [], 20)[0]
        os.close(compiler)


def test_what_is_not_installed_is_named_with_what_installs_it(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the compiler, then the headers."""
    (tmp_path / "lib" / os.uname().release / "build").rmdir()
    with pytest.raises(KernelError, match="headers of this kernel") as raised:
        backend.object_path()
    assert raised.value.hint == "apt install python3-bpfcc linux-headers-$(uname -r)"
    (installed / "bcc.py").unlink()
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    capability = backend.capability()
    assert capability.state == backend.ABSENT
    assert "python3-bpfcc is not installed" in capability.reason
    assert backend.known() is None


def test_probe_says_what_to_install() -> None:
    """In the line of the table, beside the other kinds."""
    absent = Capability(backend.ABSENT, f"python3-bpfcc is not installed: {backend.HINT}")
    line = next(probe.table({sets.BCC: absent}))
    assert line.split() == ["bcc", "absent", *absent.reason.split()]


def test_probe_tells_of_a_kernel_without_type_information(installed: Path) -> None:
    """Nothing else can be observed there, and that is no reason to say nothing."""

    def observe() -> dict[str, Capability]:
        raise KernelError("no type information")

    assert list(probe.probed(observe)) == [sets.BCC]
    (installed / "bcc.py").unlink()
    with pytest.raises(KernelError, match="no type information"):
        probe.probed(observe)


@pytest.mark.parametrize("hookset", [sets.AUTO, sets.BCC])
def test_without_type_information_it_is_compiled(hookset: str) -> None:
    """Whether it was asked for by name or not."""
    variant = Variant(hookset, "none")
    variant.check()
    assert variant.compiled
    assert not Variant(sets.AUTO, "kernel").compiled


def test_another_set_without_type_information_is_an_error() -> None:
    """It says which there is."""
    with pytest.raises(UsageError, match="hook set lsm needs type information") as raised:
        Variant("lsm", "none").check()
    assert raised.value.hint == "use --hookset bcc, or another BTF source"


def _package(installed: Path) -> Path:
    """The agent's package where the process that compiles finds our bcc beside it."""
    real = Path(backend.__file__).resolve().parent.parent
    (installed / "agent").symlink_to(real)
    (installed / "bpf").symlink_to(real.parent / "bpf")
    return installed / "agent"
