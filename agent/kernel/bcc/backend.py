"""The last rung: programs compiled here and now, where the kernel describes its structures by headers alone.

What clang makes of them in this kernel's terms becomes an ordinary object, which is loaded as the other one
is. It is compiled once a boot, in a process of its own: a compiler takes 200 MB, and minutes where everything
is slow. What became of it is remembered beside it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from agent.errors import KernelError
from agent.hooks import points
from agent.kernel import tell
from agent.kernel.capabilities import LOAD_FAIL, Capability
from agent.kernel.choose import FIRES

SET = "bcc"
ABSENT = "absent"

_PACKAGE = Path(__file__).resolve().parents[2]
_PLACES = (_PACKAGE / "bpf", _PACKAGE.parent / "bpf")
_ROOT = "fim.bcc.c"
_FOLDER = Path(os.environ.get("RUNTIME_DIRECTORY", "/run/fim"), "bcc")  # a service has its own place
_MODULES = Path("/lib/modules")
_DEADLINE_S = 1800.0
_WORDS = 1 << 16  # characters of a compiler's complaint that are kept

HINT = "apt install python3-bpfcc linux-headers-$(uname -r)"


def object_path() -> Path:
    """The compiled object, compiled now if it was not since the last boot.

    Raises KernelError, with the compiler's words: not installed, or not to be compiled for this kernel.
    """
    sources, place = _prepared()
    if not place.is_file():
        _compile(sources, place)
    return place


def capability() -> Capability:
    """What became of compiling on this kernel; tried now if it was not since the last boot."""
    try:
        object_path()
    except KernelError as error:
        if reason := lacking():
            return Capability(ABSENT, f"{reason}: {HINT}")
        return Capability(LOAD_FAIL, f"{error.message}\n{error.detail}".strip())
    return Capability(FIRES)


def known() -> Capability | None:
    """As `capability`, without trying: None if it was not."""
    sources = _sources() if _FOLDER.is_dir() else None
    place = _place(sources) if sources else None
    if place is None or lacking():
        return None
    if place.is_file():
        return Capability(FIRES)
    failed = _failed(place)
    return Capability(LOAD_FAIL, f"{failed.message}\n{failed.detail}".strip()) if failed else None


def forget() -> None:
    """Compile again the next time, as after a boot."""
    for path in (*_FOLDER.glob("*.o"), *_FOLDER.glob("*.failed")):
        path.unlink(missing_ok=True)


def lacking() -> str:
    """What is not installed that compiling takes; empty if nothing."""
    if importlib.util.find_spec("bcc") is None:
        return "python3-bpfcc is not installed"
    release = os.uname().release
    if not (_MODULES / release / "build").is_dir():
        return f"the headers of this kernel, {release}, are not installed"
    return ""


def symbols() -> dict[str, str]:
    """The compiled functions' symbols by program: bcc would attach those of the usual names by itself."""
    programs = [points.program(hook, kind) for hook in points.ALL if (kind := points.kind_of(hook, SET))]
    return {program: f"on_{program}" for program in programs} | {name: name for name in tell.PROGRAMS}


def _prepared() -> tuple[Path, Path]:
    """The folder of sources and the object's place. Raises KernelError if it was tried in vain already."""
    sources = _sources()
    if reason := lacking() or ("" if sources else "the programs' source did not come with the agent"):
        raise KernelError(f"nothing can be compiled: {reason}", hint=HINT)
    assert sources
    place = _place(sources)
    if not place.is_file() and (failed := _failed(place)):
        raise failed
    return sources, place


def _sources() -> Path | None:
    return next((place for place in _PLACES if (place / _ROOT).is_file()), None)


def _place(sources: Path) -> Path:
    """Named after all that goes into it; /run does not outlive a boot."""
    import hashlib

    state = hashlib.sha256(os.uname().release.encode())
    for path in sorted((*sources.glob("*.[ch]"), *_PACKAGE.glob("kernel/bcc/*.py"))):
        state.update(path.read_bytes())
    return _FOLDER / f"{state.hexdigest()[:32]}.o"


def _failed(place: Path) -> KernelError | None:
    try:
        words = json.loads(place.with_suffix(".failed").read_bytes())
        return KernelError(words["message"], hint=HINT, detail=words["detail"])
    except (OSError, ValueError, KeyError):
        return None


def _compile(sources: Path, place: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "agent.kernel.bcc.compile", str(sources), str(place)]
    environment = {**os.environ, "PYTHONPATH": str(_PACKAGE.parent)}
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"the compiler did not run: {error}") from error
    if done.returncode != 0:
        raise _refused(done.stderr.decode("utf-8", "replace")[-_WORDS:], place)


def _refused(words: str, place: Path) -> KernelError:
    """The compiler's first complaint, or the last line if it has none; remembered till the next boot."""
    lines = [line.strip() for line in words.splitlines() if line.strip()] or ["no reason was given"]
    first = next((line for line in lines if "error: " in line), lines[-1])
    message = f"bcc cannot compile for {os.uname().release}: {first}"
    place.with_suffix(".failed").write_text(json.dumps({"message": message, "detail": words}), "utf-8")
    return KernelError(message, hint=HINT, detail=words)
