"""The tests that load programs are skipped only where the kernel lets their process load none."""

from __future__ import annotations

import pytest

from agent.errors import KernelError
from agent.kernel.libbpf import Object
from agent.service import privileges
from agent.service.privileges import CAP_BPF
from tests.agent.kernel import conftest

DENIED = "load the object: Operation not permitted (EPERM)"
TRIVIAL = "libbpf: Error in bpf_object__probe_loading(). Couldn't load trivial BPF program."
REFUSED = "libbpf: prog 'check__hash': BPF program load failed: Permission denied"


@pytest.mark.parametrize(
    ("message", "detail", "capabilities", "reason"),
    [
        (DENIED, TRIVIAL, {CAP_BPF}, "of two instructions"),  # a seccomp filter, or another user namespace
        (DENIED, "libbpf: map 'epochs': failed to create", set(), "neither CAP_BPF nor CAP_SYS_ADMIN"),
        (DENIED, "libbpf: map 'epochs': failed to create", {CAP_BPF}, ""),
        ("load the object: Permission denied (EACCES)", REFUSED, set(), ""),
        ("load the object: Invalid argument (EINVAL)", REFUSED, {CAP_BPF}, ""),
    ],
)
def test_only_a_process_that_may_load_nothing_skips(
    monkeypatch: pytest.MonkeyPatch, message: str, detail: str, capabilities: set[int], reason: str
) -> None:
    """A program that the verifier rejects, or a map that cannot be created, fails the test."""
    monkeypatch.setattr(privileges, "effective", lambda: frozenset(capabilities))

    def fail(_one: Object) -> None:
        raise KernelError(message, detail=detail)

    monkeypatch.setattr(Object, "load", fail)
    expected = pytest.skip.Exception if reason else KernelError
    with pytest.raises(expected, match=reason or "load the object"):
        conftest.load_programs(Object(str(conftest.BUILT)))
