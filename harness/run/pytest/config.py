"""What a `pytest.Config` says of a matrix: its file, the options, and the registered parts of the plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.host import files
from harness.run.options import ALL

_MATRIX_KEY = re.compile(r"""^\{?\s*["']?kernels["']?\s*:""", re.MULTILINE)  # what every matrix has
_MAX_BYTES = 256 << 10  # of a matrix
# The names under which the two parts of the plugin are registered.
CONTROLLER = "harness-controller"
WORKER = "harness-worker"


def values(config: pytest.Config) -> dict[str, Any]:
    """Return the value of each option by its attribute."""
    return {option.attribute: config.getoption(f"matrix_{option.attribute}") for option in ALL}


def matrix_path(config: pytest.Config) -> Path | None:
    """Return the matrix among pytest's arguments, or None. Raises UsageError if there are two."""
    base = config.invocation_params.dir
    found = sorted(
        path for path in {base / str(word).partition("::")[0] for word in config.args} if _is_matrix(path)
    )
    if len(found) > 1:
        raise pytest.UsageError("one matrix at a time: " + ", ".join(path.name for path in found))
    return found[0] if found else None


def _is_matrix(path: Path) -> bool:
    """Return whether a file is a matrix, by its name or content: other plugins use YAML files too."""
    if path.suffix not in (".yaml", ".yml"):
        return False
    try:
        if path.stem == "matrix":
            return True
        return bool(_MATRIX_KEY.search(files.read_regular(path, _MAX_BYTES).decode()))
    except (OSError, UnicodeDecodeError):
        return False  # pytest reports the error
