"""Predicted beside observed: each hook of a cell with what its kernel's image said of it before it booted."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from agent.hooks.points import TRAMPOLINES
from harness.errors import InfrastructureError
from harness.kernels import inspect
from harness.plan.cells import Cell
from harness.results.model import CellReport


def added(report: CellReport, cell: Cell, files: Mapping[str, str]) -> CellReport:
    """The report with a prediction for each hook; as it is where the image cannot be read."""
    if not report.hooks or "kernel" not in files:
        return report
    cmdline = cell.cmdline.args if cell.cmdline else ""
    try:
        known = _predictions(files["kernel"], files.get("config", ""), cmdline)
    except (InfrastructureError, OSError):
        return report
    hidden = {} if cell.btf == "kernel" else dict.fromkeys(TRAMPOLINES, "load-fail")
    rows = (
        hook.model_copy(update={"predicted": hidden.get(hook.type, known.get((hook.event, hook.type), ""))})
        for hook in report.hooks
    )
    return report.model_copy(update={"hooks": tuple(rows)})


@functools.cache
def _predictions(image: str, config: str, cmdline: str) -> dict[tuple[str, str], str]:
    """The predicted states by hook and kind; half a second, so once a kernel."""
    text = Path(config).read_text(encoding="utf-8", errors="replace") if config else ""
    found = inspect.of_image(Path(image), text, cmdline)
    return {(one.hook, one.kind): one.state for one in found}
