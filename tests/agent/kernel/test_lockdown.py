"""Lockdown of the kernel is reported as the cause, without further attempts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import KernelError, MinimumNotMetError
from agent.hooks import sets
from agent.kernel import capabilities, loader, lockdown
from agent.kernel.bcc import backend
from agent.kernel.capabilities import Capability
from agent.kernel.loader import Loader, Variant
from tests.agent.kernel.test_loader import STATES, Refusing, untyped  # noqa: F401 - a fixture

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
        raise KernelError("does not serve open.enter", detail="the verifier's words")

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


@pytest.mark.usefixtures("locked", "untyped")
def test_the_first_refusal_ends_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """All programs read the kernel's memory, so no other set is tried."""
    tried: list[int] = []

    class Counting(Refusing):
        refused = ("lsm",)

        def _load(self, *words: object) -> None:  # type: ignore[override]
            tried.append(1)
            super()._load(*words)  # type: ignore[arg-type]

    with pytest.raises(KernelError, match="lsm is not for here"):
        Counting(STATES, Variant(sets.AUTO), Path("none")).load()
    assert len(tried) == 1


@pytest.mark.usefixtures("locked")
def test_the_probe_names_lockdown_as_well() -> None:
    """Beside each kind that does not fire."""
    assert "lockdown=confidentiality" in capabilities.remedy("kprobe", Capability(capabilities.ATTACH_FAIL))
    assert capabilities.remedy("lsm", Capability("fires")) == ""
