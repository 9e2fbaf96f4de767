"""Adds to each observed hook of a cell the state that was predicted from the kernel image before the boot."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from harness.errors import InfrastructureError
from harness.kernels import inspect
from harness.plan.cells import Cell
from harness.results.model import CellReport


def added(report: CellReport, cell: Cell, files: Mapping[str, str]) -> CellReport:
    """Return the report with a prediction for each hook, or unchanged if the image cannot be read.

    `files` holds the machine's files by kind; `kernel` is the image, `btf` its BTF if that is not in the
    image, `config` the kernel's configuration.
    """
    if not report.hooks or "kernel" not in files:
        return report
    cmdline = cell.cmdline.args if cell.cmdline else ""
    try:
        image = files.get("btf", files["kernel"])
        states = _states(image, files.get("config", ""), cmdline, kernel_btf=cell.btf == "kernel")
    except (InfrastructureError, OSError):
        return report
    hooks = tuple(
        hook.model_copy(update={"predicted": states.get((hook.event, hook.type), "")})
        for hook in report.hooks
    )
    return report.model_copy(update={"hooks": hooks})


@functools.cache
def _states(image: str, config: str, cmdline: str, *, kernel_btf: bool) -> dict[tuple[str, str], str]:
    """The predicted states by hook and kind of program. Cached because one image takes half a second."""
    text = Path(config).read_text(encoding="utf-8", errors="replace") if config else ""
    predictions = inspect.of_image(Path(image), text, cmdline, kernel_btf=kernel_btf)
    return {(prediction.hook, prediction.kind): prediction.state for prediction in predictions}
