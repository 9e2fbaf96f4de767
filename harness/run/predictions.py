"""Compares what the agent observed in a cell with what was predicted from the kernel before the boot."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from harness.errors import InfrastructureError
from harness.kernels import configuration, inspect, skips
from harness.kernels.inspect import ATTACHED, Prediction
from harness.plan.cells import Cell
from harness.results.model import CellReport, TestResult
from harness.results.verdict import Verdict

FIRES = "fires"  # the state of a program type that works
_SHAPES = "shapes."  # the scenarios that load all programs of a type, which their name has
_MOST_NAMED = 3  # hooks in a reason

Files = Mapping[str, str]
"""A machine's files by kind: `kernel` is the image, `btf` its BTF if that is not in the image, `config` the
kernel's configuration."""


def added(report: CellReport, cell: Cell, files: Files) -> CellReport:
    """Return the report with a prediction for each hook, or unchanged if the image cannot be read."""
    if not report.hooks:
        return report
    states = _states(cell, files)
    hooks = tuple(
        hook.model_copy(update={"predicted": states.get((hook.event, hook.type), "")})
        for hook in report.hooks
    )
    return report.model_copy(update={"hooks": hooks}) if states else report


def contradicted(result: TestResult, report: CellReport, cell: Cell, files: Files) -> str:
    """The promise of the kernel that a pass or a skip contradicts, as text; "" if there is none.

    Without a configuration nothing is promised.
    """
    config = _text(files.get("config", ""))
    if not config or cell.suite:
        return ""
    if result.name.startswith(_SHAPES):
        return _contradicted_type(result, report, cell, files)
    if result.verdict is not Verdict.SKIP:
        return ""
    promise = skips.promise(
        result.name,
        report.coverage,
        report.limits,
        cell.hookset,
        skips=report.capabilities.get("skips") == "fires",
        predicted=_predicted(cell, files),
        config=config,
    )
    return f"its image and configuration promise {promise}{_failed(report, cell, files)}" if promise else ""


def _contradicted_type(result: TestResult, report: CellReport, cell: Cell, files: Files) -> str:
    """The promise of a program type that was not loaded, or that loads and was observed not to work."""
    kind = result.name.removeprefix(_SHAPES)
    state = report.capabilities.get(kind, FIRES)
    options = promised(kind, cell, files) if cell.btf == "kernel" and _is_typed(files) else ""
    if not options or (result.verdict is not Verdict.SKIP and state == FIRES):
        return ""
    observed = f", and {kind} is {state} on this kernel" if state != FIRES else ""
    return f"its configuration promises {kind} ({options}){observed}"


def promised(kind: str, cell: Cell, files: Files) -> str:
    """The options by which the kernel's configuration promises a program type in a cell; "" if none."""
    return configuration.promised(kind, _text(files.get("config", "")), *_settings(cell))


def _is_typed(files: Files) -> bool:
    return configuration.is_set(_text(files.get("config", "")), "CONFIG_DEBUG_INFO_BTF")


def _failed(report: CellReport, cell: Cell, files: Files) -> str:
    """The hooks that should be attached and are not, as the end of a sentence."""
    states = _states(cell, files)
    promising = [row for row in report.hooks if states.get((row.event, row.type)) == ATTACHED]
    failed = [row for row in promising if row.state != ATTACHED]
    words = ", ".join(f"{row.event} by {row.type} is {row.state}" for row in failed[:_MOST_NAMED])
    return f" ({words})" if words else ""


def _states(cell: Cell, files: Files) -> dict[tuple[str, str], str]:
    """The predicted states by hook and program type; empty if the image cannot be read."""
    return {(one.hook, one.kind): one.state for one in _predicted(cell, files)}


def _predicted(cell: Cell, files: Files) -> tuple[Prediction, ...]:
    if "kernel" not in files:
        return ()
    image, config = files.get("btf", files["kernel"]), files.get("config", "")
    try:
        return _of_image(image, config, *_settings(cell), kernel_btf=cell.btf == "kernel")
    except (InfrastructureError, OSError):
        return ()


@functools.cache
def _of_image(
    image: str, config: str, cmdline: str, sysctl: tuple[str, ...], *, kernel_btf: bool
) -> tuple[Prediction, ...]:
    """The predictions, cached because one image takes half a second."""
    return tuple(inspect.of_image(Path(image), _text(config), cmdline, sysctl, kernel_btf=kernel_btf))


def _settings(cell: Cell) -> tuple[str, tuple[str, ...]]:
    """The command line and the sysctls of a cell."""
    return cell.cmdline.args if cell.cmdline else "", cell.sysctl.values if cell.sysctl else ()


def _text(config: str) -> str:
    return Path(config).read_text(encoding="utf-8", errors="replace") if config else ""
