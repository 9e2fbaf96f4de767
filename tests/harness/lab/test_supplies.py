"""Preparation of kernels and images before a run, with fake sources."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from harness.errors import ConfigError, InfrastructureError, UnknownKernelError
from harness.host.progress import Event, silent
from harness.kernels import KernelRequest, ResolvedKernel
from harness.lab import supplies
from harness.lab.supplies import BACKOFF_S, Preparation, resolve_all
from harness.plan.cells import Cell
from harness.plan.plan import Plan


@pytest.mark.parametrize(("failures", "missing"), [(0, {}), (2, {}), (3, {"m": "404"})])
def test_a_download_that_fails_is_tried_again(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, failures: int, missing: dict[str, str]
) -> None:
    left = [InfrastructureError("404")] * failures
    events: list[Event] = []
    paused: list[float] = []

    def stumble(*_words: Any) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(supplies.Preparation, "_supply", stumble)
    preparation = Preparation("tcg", events.append)
    preparation.pause = paused.append
    preparation._try("m", cell, None)  # type: ignore[arg-type]
    assert preparation.missing == missing
    assert paused == list(BACKOFF_S[:failures])
    assert len(events) == failures


def test_a_missing_compiler_is_an_error_before_anything_is_fetched(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guests' init is compiled on the host: without the compiler a download would be useless."""

    def resolve(*_words: Any) -> None:
        raise AssertionError("a repository was asked")

    monkeypatch.setattr(supplies, "resolve_all", resolve)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    cells = [cell.model_copy(update={"arch": "arm64", "tests": ()}) for cell in plan.cells]
    with pytest.raises(ConfigError, match="aarch64-linux-gnu-gcc was not found") as caught:
        Preparation("tcg", lambda _: None).supplies(plan.model_copy(update={"cells": tuple(cells)}))
    assert caught.value.hint.startswith("apt-get install ")


def _resolving(monkeypatch: pytest.MonkeyPatch, **errors: Exception) -> None:
    """Archives that have every kernel except those in `errors`, by flavour."""

    def resolve(request: KernelRequest, **_words: Any) -> ResolvedKernel:
        if error := errors.get(request.flavour):
            raise error
        return ResolvedKernel(request.name, request.series, "6.1.0-1", request.arch, "suite", ())

    monkeypatch.setattr("harness.kernels.resolver.resolve", resolve)


def _cells(cell: Cell, *flavours: str) -> dict[str, Cell]:
    kernels = (cell.kernel.model_copy(update={"flavour": one, "name": one}) for one in flavours)
    return {one.flavour: cell.model_copy(update={"id": one.flavour, "kernel": one}) for one in kernels}


def test_a_kernel_that_cannot_be_resolved_costs_its_own_machines(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that left the archive and an index that cannot be fetched do not stop the other kernels."""
    _resolving(monkeypatch, rt=UnknownKernelError("dropped"), generic=InfrastructureError("no index"))
    monkeypatch.setattr(Preparation, "_supply", lambda self, name, *_: self.files.update({name: {}}))
    monkeypatch.setattr(Preparation, "_agent", lambda _self: None)
    plan = Plan(schema=1, cells=tuple(_cells(cell, "cloud", "rt", "generic").values()))
    found = Preparation("tcg", silent).supplies(plan)
    arch = cell.arch
    assert found.missing == {f"rt-{arch}": "dropped", f"generic-{arch}": "no index"}
    assert set(found.files) == {f"cloud-{arch}"}


@pytest.mark.parametrize(
    ("errors", "flavours", "words"),
    [
        ({"rt": UnknownKernelError("dropped", hint="there is 6.1")}, ["rt"], "dropped"),
        ({}, ["cloud", "clowd"], "unknown flavour 'clowd'"),
    ],
)
def test_a_matrix_of_unknown_kernels_is_an_error(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception], flavours: list[str], words: str
) -> None:
    """If no archive has any of the kernels, or a flavour does not exist, nothing runs."""
    _resolving(monkeypatch, **errors)
    with pytest.raises(ConfigError, match=words) as raised:
        resolve_all(_cells(cell, *flavours), None, silent)
    assert raised.value.hint


def test_an_archive_that_is_down_is_infrastructure(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any kernel every cell ends INFRA; that is no error of the matrix."""
    _resolving(monkeypatch, cloud=InfrastructureError("no index"), rt=UnknownKernelError("dropped"))
    found, missing = resolve_all(_cells(cell, "cloud", "rt"), None, silent)
    assert not found
    assert set(missing) == {"cloud", "rt"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no BTF in it")])
def test_an_image_that_cannot_be_made_costs_its_own_machine(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The image is not tried again."""

    def fail(*_words: Any) -> None:
        raise error

    monkeypatch.setattr(Preparation, "_supply", fail)
    preparation = Preparation("tcg", silent)
    preparation.pause = lambda _seconds: pytest.fail("tried again")
    preparation._try("m", cell, None)  # type: ignore[arg-type]
    assert preparation.missing == {"m": str(error)}
