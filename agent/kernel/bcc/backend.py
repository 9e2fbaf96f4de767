"""Compiles the BPF programs with bcc on this host, for kernels without BTF, whose headers exist.

The result is an ordinary object file, which is loaded like the one that was compiled beforehand. It is
compiled once for each boot, in a process of its own: the compiler takes 200 MB, and minutes on a slow host. A
failure is stored beside the object's path and not tried again before the next boot.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from agent.errors import KernelError
from agent.hooks import needs, sets
from agent.kernel import map_writer
from agent.kernel.bcc import kheaders
from agent.kernel.capabilities import LOAD_FAIL, Capability
from agent.kernel.choose import FIRES

SET = "bcc"
ABSENT = "absent"

_PACKAGE = Path(__file__).resolve().parents[2]
_SOURCE_FOLDERS = (_PACKAGE / "bpf", _PACKAGE.parent / "bpf")
_ROOT = "fim.bcc.c"
_FOLDER = Path(os.environ.get("RUNTIME_DIRECTORY", "/run/fim"), "bcc")  # systemd sets it for a service
_DEADLINE_S = 1800.0
_KEPT_CHARACTERS = 1 << 16  # of the compiler's messages

HINT = "apt install python3-bpfcc linux-headers-$(uname -r)"


def object_path() -> Path:
    """Return the path of the compiled object; compile it if that was not done since the last boot.

    Raises KernelError, with the compiler's messages, if bcc is not installed or cannot compile for this
    kernel.
    """
    sources, path = _prepared()
    if not path.is_file():
        _compile(sources, path)
    return path


def capability() -> Capability:
    """Return whether bcc can compile for this kernel; try it if that was not done since the last boot."""
    try:
        object_path()
    except KernelError as error:
        if reason := lacking():
            return Capability(ABSENT, f"{reason}: {HINT}")
        return Capability(LOAD_FAIL, f"{error.message}\n{error.detail}".strip())
    return Capability(FIRES)


def known() -> Capability | None:
    """Like `capability`, but return None instead of compiling."""
    sources = _sources() if _FOLDER.is_dir() else None
    path = _object_path(sources) if sources else None
    if path is None or lacking():
        return None
    if path.is_file():
        return Capability(FIRES)
    failure = _earlier_failure(path)
    return Capability(LOAD_FAIL, f"{failure.message}\n{failure.detail}".strip()) if failure else None


def forget() -> None:
    """Remove all results, so that the next call compiles again."""
    for path in (*_FOLDER.glob("*.o"), *_FOLDER.glob("*.failed")):
        path.unlink(missing_ok=True)


def lacking() -> str:
    """Describe what compiling needs and is not installed; empty if nothing is missing."""
    if importlib.util.find_spec("bcc") is None:
        return "python3-bpfcc is not installed"
    if not kheaders.installed() and not kheaders.held():
        return f"the headers of this kernel, {os.uname().release}, are not installed"
    return ""


def symbols() -> dict[str, str]:
    """Return the compiled functions' symbols by program. bcc would attach functions with the usual names."""
    programs = [sets.program(hook, kind) for hook in needs.HOOKS if (kind := sets.kind_of(hook, SET))]
    return {program: f"on_{program}" for program in programs} | {name: name for name in map_writer.PROGRAMS}


def _prepared() -> tuple[Path, Path]:
    """Return source folder and object path. Raises KernelError if compiling failed since the boot."""
    sources = _sources()
    if reason := lacking() or ("" if sources else "the agent was deployed without the programs' source"):
        raise KernelError(f"cannot compile the programs: {reason}", hint=HINT)
    assert sources
    path = _object_path(sources)
    if not path.is_file() and (failure := _earlier_failure(path)):
        raise failure
    return sources, path


def _sources() -> Path | None:
    return next((folder for folder in _SOURCE_FOLDERS if (folder / _ROOT).is_file()), None)


def _object_path(sources: Path) -> Path:
    """Return a path that is named by a digest of the kernel's release and all sources."""
    import hashlib

    state = hashlib.sha256(os.uname().release.encode())
    for path in sorted((*sources.glob("*.[ch]"), *_PACKAGE.glob("kernel/bcc/*.py"))):
        state.update(path.read_bytes())
    return _FOLDER / f"{state.hexdigest()[:32]}.o"


def _earlier_failure(path: Path) -> KernelError | None:
    try:
        failure = json.loads(path.with_suffix(".failed").read_bytes())
        return KernelError(failure["message"], hint=HINT, detail=failure["detail"])
    except (OSError, ValueError, KeyError):
        return None


def _compile(sources: Path, path: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "agent.kernel.bcc.compile", str(sources), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(_PACKAGE.parent)}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"cannot run the compiler: {error}") from error
    if done.returncode != 0:
        raise _store_failure(done.stderr.decode("utf-8", "replace")[-_KEPT_CHARACTERS:], path)


def _store_failure(output: str, path: Path) -> KernelError:
    """Store and return an error with the compiler's first error message, or its last line if it has none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no reason was given"]
    first = next((line for line in lines if "error: " in line), lines[-1])
    message = f"bcc cannot compile for {os.uname().release}: {first}"
    path.with_suffix(".failed").write_text(json.dumps({"message": message, "detail": output}), "utf-8")
    return KernelError(message, hint=HINT, detail=output)
