"""Settings of the host that keep programs from working are named, with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.hooks import sets
from agent.kernel import btf, capabilities, causes, lockdown, tracefs
from agent.kernel.capabilities import Capability

STATUS = "Name:\tagent\nCapEff:\t{:016x}\n"
ADMIN = 1 << 21


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which everything works: its files by name, for tests to change."""
    (tmp_path / "kprobe_events").write_text("")
    texts = {"lockdown": "[none] integrity", "lsm": "yama,bpf", "jit": "1", "paranoid": "3"}
    texts |= {"status": STATUS.format(ADMIN), "btf": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(lockdown, "_LEVEL_FILE", tmp_path / "lockdown")
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path,))
    monkeypatch.setattr(btf, "KERNEL", str(tmp_path / "btf"))
    places = {
        "_LSM_LIST": "lsm",
        "_JIT": "jit",
        "_PARANOID": "paranoid",
        "_STATUS": "status",
    }
    for constant, name in places.items():
        monkeypatch.setattr(causes, constant, tmp_path / name)
    return tmp_path


@pytest.mark.usefixtures("host")
def test_a_host_without_causes() -> None:
    """An error stays as it is."""
    error = KernelError("refused", hint="do that")
    causes.name(error)
    assert (causes.found(), error.hint, error.detail) == ([], "do that", "")


@pytest.mark.parametrize(
    ("name", "text", "kind", "remedy"),
    [
        ("lockdown", "none integrity [confidentiality]", "kprobe", "lockdown=confidentiality"),
        ("lsm", "lockdown,yama", "lsm", "lsm=lockdown,yama,bpf"),
        ("lsm", None, "lsm", "mount -t securityfs"),
        ("btf", None, "fentry", "CONFIG_DEBUG_INFO_BTF"),
        ("jit", "0", "kprobe", "bpf_jit_enable=1"),
        ("jit", "0", "cast", "bpf_jit_enable=1"),
        ("kprobe_events", None, "kprobe", "mount -t tracefs"),
        ("status", STATUS.format(0), "tracepoint", "perf_event_paranoid=2"),
    ],
)
def test_each_cause_has_its_remedy(host: Path, name: str, text: str | None, kind: str, remedy: str) -> None:
    """In the error of a load and beside a kind that does not fire; not beside one that does."""
    if text is None:
        (host / name).unlink()
    else:
        (host / name).write_text(text)
    error = KernelError("refused", hint="do that", detail="the kernel's words")
    causes.name(error, {kind})
    assert remedy in error.hint
    assert error.hint.endswith("do that")
    assert error.detail.startswith("possible cause: ")
    assert error.detail.endswith("the kernel's words")
    assert remedy in capabilities.remedy(kind, Capability(capabilities.ATTACH_FAIL))
    assert capabilities.remedy(kind, Capability("fires")) == ""


def test_a_hook_set_has_the_causes_of_its_programs(host: Path) -> None:
    """The list of security modules does not concern kprobes."""
    (host / "lsm").write_text("yama")
    assert causes.found(causes.kinds_of("kprobe")) == []
    assert len(causes.found(causes.kinds_of("lsm"))) == 1
    assert len(causes.found(causes.kinds_of(sets.AUTO))) == 1


def test_some_causes_keep_programs_from_loading(host: Path) -> None:
    """Without a compiler the kernel refuses kprobes, which jump; what prevents attaching is none of them."""
    (host / "kprobe_events").unlink()
    (host / "lsm").write_text("yama\n")
    assert causes.found({"lsm", "kprobe"})
    assert causes.of_loads(causes.ALL) == []
    (host / "jit").write_text("0\n")
    assert [cause.remedy for cause in causes.of_loads({"kprobe"})] == ["sysctl net.core.bpf_jit_enable=1"]
    assert causes.of_loads({"lsm", "fentry", "fexit"}) == []


@pytest.mark.parametrize(
    ("level", "takes"), [("4", True), ("3", True), ("2", False), ("-1", False), ("", False), ("odd", False)]
)
def test_the_level_at_which_perf_takes_admin(host: Path, level: str, takes: bool) -> None:
    (host / "paranoid").write_text(f"{level}\n")
    assert causes.perf_takes_admin() is takes
