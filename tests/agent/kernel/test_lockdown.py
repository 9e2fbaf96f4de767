"""Lockdown of the kernel is reported as the cause, without further attempts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from agent.errors import KernelError, MinimumNotMetError
from agent.hooks import sets
from agent.kernel import capabilities, loader, lockdown, reads, shapes
from agent.kernel.bcc import backend
from agent.kernel.capabilities import Capability
from agent.kernel.loader import Loader, Variant
from tests import ROOT
from tests.agent.kernel.conftest import BUILT
from tests.agent.kernel.disassembly import functions
from tests.agent.kernel.test_loader import STATES, untyped  # noqa: F401 - a fixture

CAST = 1  # its type number, as in Functions
_PROBE_READ_KERNEL = 113  # include/uapi/linux/bpf.h
LEVELS = "none integrity [confidentiality]\n"


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's own file, at the highest level."""
    place = tmp_path / "lockdown"
    place.write_text(LEVELS)
    monkeypatch.setattr(lockdown, "_LEVEL_FILE", place)
    return place


@pytest.mark.parametrize(
    ("text", "level"),
    [(LEVELS, "confidentiality"), ("[none] integrity confidentiality\n", "none"), ("", ""), ("\xff[", "")],
)
def test_the_level_is_the_one_in_brackets(locked: Path, text: str, level: str) -> None:
    """Another text has no level."""
    locked.write_text(text, encoding="latin-1")
    assert lockdown.level() == level


def test_a_kernel_without_lockdown_has_no_level(locked: Path) -> None:
    """The file does not exist without the security module."""
    locked.unlink()
    assert lockdown.level() == ""
    assert not lockdown.active()


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("hookset", [sets.AUTO, "kprobe", sets.BCC])
def test_a_load_names_lockdown_and_compiles_nothing(hookset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names lockdown and the remedy, whatever failed first, and bcc compiles nothing."""

    def refuse(_loader: Loader) -> None:
        raise MinimumNotMetError("does not serve open.enter", detail="the verifier's words")

    monkeypatch.setattr(Loader, "load", refuse)
    monkeypatch.setattr(capabilities, "cached", lambda *_: {"lsm": Capability("fires")})
    monkeypatch.setattr(loader, "object_path", lambda: Path("none"))
    monkeypatch.setattr(backend, "known", lambda: None)
    monkeypatch.setattr(backend, "object_path", lambda: pytest.fail("compiled"))
    with pytest.raises(MinimumNotMetError, match="locked down") as caught:
        loader.load(hookset)
    assert "lockdown=confidentiality" in caught.value.hint
    if hookset != sets.BCC:
        assert "the verifier's words" in caught.value.detail


class Rewriting(Loader):
    """Records how programs read the kernel's memory."""

    casts: int | None = None

    def _load(self, *words: object) -> None:  # type: ignore[override]
        self.casts = int(str(words[-1]))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("read", "cast", "casts"),
    [("fires", "fires", 0), ("fires", "load-fail", 0), ("load-fail", "fires", CAST)],
)
def test_programs_read_by_a_cast_where_the_helper_is_refused(read: str, cast: str, casts: int) -> None:
    """By the helper everywhere else, whether or not the kernel has the function of the cast."""
    states = STATES | {"read": read, "cast": cast}
    loading = Rewriting(states, Variant("lsm"), Path("none"))
    loading.load()
    assert loading.casts == casts


@pytest.mark.usefixtures("locked", "untyped")
@pytest.mark.parametrize("hookset", [sets.AUTO, "lsm", "kprobe"])
def test_a_kernel_without_the_cast_is_refused_at_once(hookset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded, and the error names lockdown."""
    states = STATES | {"read": "load-fail", "cast": "load-fail"}
    found = {kind: Capability(state) for kind, state in states.items()}
    monkeypatch.setattr(capabilities, "cached", lambda *_: found)
    monkeypatch.setattr(loader, "object_path", lambda: Path("none"))
    monkeypatch.setattr(Loader, "_load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(MinimumNotMetError, match="locked down") as caught:
        loader.load(hookset)
    assert "does not permit programs to read its memory" in caught.value.detail


@pytest.mark.usefixtures("locked")
def test_another_error_stays_and_has_lockdown_as_a_possible_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked down kernel may refuse for other reasons, such as missing capabilities."""
    monkeypatch.setattr(loader, "_relocated", lambda _: fail("the control program is load-fail"))
    with pytest.raises(KernelError, match="the control program") as caught:
        loader.load("lsm")
    assert "possible cause: the kernel is locked down" in caught.value.detail


def fail(message: str) -> None:
    raise KernelError(message)


def instruction(operation: int, registers: int, value: int) -> bytes:
    return struct.pack("=BBhI", operation, registers, 0, value)


def test_the_rewriting_of_a_program() -> None:
    """Calls of the mark become calls of the kernel's function; the mark as a number stays."""
    kept = (
        instruction(0xB7, 1, 4) + instruction(0x18, 1, 5) + instruction(0, 0, 45) + instruction(0x85, 0x10, 4)
    )
    kept += instruction(0x15, 2, reads.MARK) + instruction(0x55, 2, reads.MARK)
    before = kept + instruction(0x85, 0, reads.MARK) + instruction(0x85, 0, 113)
    after = kept + instruction(0x85, 0x20, 777) + instruction(0x85, 0, 113)
    assert reads.by_cast(777)(before) == after


def test_helpers_for_the_users_memory_are_restored() -> None:
    """Where libbpf finds the one for the kernel's memory refused, it replaces them."""
    before = instruction(0x85, 0, 4) + instruction(0x85, 0, 45)
    assert reads.by_cast(777)(before) == instruction(0x85, 0, 112) + instruction(0x85, 0, 114)


def test_each_object_has_one_way_to_read_the_kernels_memory() -> None:
    """Only programs that probe the kernel or serve tests use the other one; each way costs every load."""
    helper, cast = f"call {_PROBE_READ_KERNEL}", f"call {reads.MARK}"
    for path, other in ((BUILT, cast), (reads.with_casts(BUILT), helper)):
        using = {
            name
            for name, function in functions(path).items()
            if any(line.endswith(f"\t{other}") for line in function.lines)
        }
        assert {name.partition("__")[0] for name in using} <= {"probe", "check"}, path


def test_both_objects_have_the_same_programs() -> None:
    """But none at kprobes with casts: lockdown forbids them."""
    helper, casts = (set(functions(path)) for path in (BUILT, reads.with_casts(BUILT)))
    missing = {name for name in helper - casts if shapes.kind_of(name)}
    assert {shapes.kind_of(name) for name in missing} == {"kprobe", "kretprobe"}
    assert not {name for name in casts - helper if shapes.kind_of(name)}


def test_headers_read_the_kernels_memory_in_one_place() -> None:
    """Header and module use one mark, and no header but read.h reads the kernel's memory by a helper."""
    text = (ROOT / "bpf/read.h").read_text()
    assert f"#define FIM_MARK {reads.MARK:#x} " in text
    direct = {path.name for path in (ROOT / "bpf").glob("*.h") if "bpf_probe_read_kernel" in path.read_text()}
    assert direct == {"read.h", "bcc.h"}


@pytest.mark.usefixtures("locked")
def test_the_probe_names_lockdown_as_well() -> None:
    """Beside each kind that does not fire."""
    assert "lockdown=confidentiality" in capabilities.remedy("kprobe", Capability(capabilities.ATTACH_FAIL))
    assert capabilities.remedy("lsm", Capability("fires")) == ""
