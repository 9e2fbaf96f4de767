"""A compilation once for each boot, and the reasons why it fails; bcc is a fake here and real in guests."""

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
from agent.kernel.bcc import backend, kheaders
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
    """Pretend that a bcc that fails, and headers, are installed; return the folder of bcc."""
    (tmp_path / "lib" / os.uname().release / "build").mkdir(parents=True)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "bcc.py").write_text(FAILING)
    monkeypatch.setattr(backend, "_FOLDER", tmp_path / "run" / "bcc")
    monkeypatch.setattr(kheaders, "MODULES", tmp_path / "lib")
    monkeypatch.setattr(kheaders, "ARCHIVE", tmp_path / "kheaders.tar.xz")
    monkeypatch.syspath_prepend(tmp_path / "path")
    return tmp_path / "path"


def test_the_reason_is_the_compilers_message(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the first error, the detail all output; later calls know it without compiling."""
    monkeypatch.setattr(backend, "_PACKAGE", _package(installed))
    with pytest.raises(KernelError, match=r"fs\.h:7:1: error: no such thing") as raised:
        backend.object_path()
    assert "more words" in raised.value.detail
    known = backend.known()
    assert known
    assert known.state == LOAD_FAIL
    assert "no such thing" in known.reason


def test_a_failure_is_not_tried_again_before_the_next_boot(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each start of the agent would take the minutes of a compilation."""
    monkeypatch.setattr(backend, "_PACKAGE", _package(installed))
    words = backend.capability().reason
    (installed / "bcc.py").write_text("raise SystemExit('it was tried again')")
    assert backend.capability() == (LOAD_FAIL, words)
    backend.forget()
    assert "it was tried again" in backend.capability().reason


def test_the_compiler_ends_with_the_agent(installed: Path) -> None:
    """Otherwise it would run on for minutes without use."""
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


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler first, then the headers."""
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


def test_probe_names_the_missing_packages() -> None:
    """In the line of the table, beside the other kinds."""
    absent = Capability(backend.ABSENT, f"python3-bpfcc is not installed: {backend.HINT}")
    line = next(probe.table({sets.BCC: absent}))
    assert line.split() == ["bcc", "absent", *absent.reason.split()]


def test_probe_on_a_kernel_without_type_information(installed: Path) -> None:
    """It prints the state of bcc, because nothing else can be observed there."""

    def observe() -> dict[str, Capability]:
        raise KernelError("no type information")

    assert list(probe.probed(observe)) == [sets.BCC]
    (installed / "bcc.py").unlink()
    with pytest.raises(KernelError, match="no type information"):
        probe.probed(observe)


@pytest.mark.parametrize("hookset", [sets.AUTO, sets.BCC])
def test_without_btf_the_object_is_compiled(hookset: str) -> None:
    """For `auto` and for `bcc`."""
    variant = Variant(hookset, "none")
    variant.check()
    assert variant.compiled
    assert not Variant(sets.AUTO, "kernel").compiled


def test_another_hook_set_without_btf_is_an_error() -> None:
    """The hint names the set that works."""
    with pytest.raises(UsageError, match="hook set lsm needs type information") as raised:
        Variant("lsm", "none").check()
    assert raised.value.hint == "use --hookset bcc, or another BTF source"


def _package(installed: Path) -> Path:
    """The agent's package, linked where the compiling process finds the fake bcc."""
    real = Path(backend.__file__).resolve().parent.parent
    (installed / "agent").symlink_to(real)
    (installed / "bpf").symlink_to(real.parent / "bpf")
    return installed / "agent"
