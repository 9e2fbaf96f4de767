"""Makes the rules of a bench's policies: for the agent, and the same watches for auditd."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from harness.bench.places import WATCHED

DEFAULT = "default"  # the agent's default rules and one for the bench's own files
OPENS = "opens"  # one rule that needs one event type
COUNTS = (100, 1000, 4000)  # policies of so many rules

_PATTERN = re.compile(r'~?"(/[^"\s]+)"')
_WATCHED = f"""
  - id: bench
    expression: fim.write.file.path =~ "{WATCHED}/**"
"""
_OPENED = f"""version: 1.0.0
rules:
  - id: bench
    expression: open.file.path =~ "{WATCHED}/**" && open.flags & (O_WRONLY | O_RDWR) > 0
"""


def for_agent(policy: str, defaults: Path) -> str:
    """Return a policy file; `defaults` are the agent's default rules."""
    if policy == OPENS:
        return _OPENED
    if policy == DEFAULT:
        return defaults.read_text(encoding="utf-8").rstrip() + "\n" + _WATCHED
    rules = (
        f"  - {{id: r{path[-4:]}, expression: 'fim.write.file.path == \"{path}\"'}}\n"
        for path in _paths(policy)
    )
    return "version: 1.0.0\nrules:\n" + "".join(rules) + _WATCHED.lstrip("\n")


def for_auditd(policy: str, defaults: Path) -> str:
    """Return rules for auditctl that watch the same paths for writing; it has no patterns, only folders."""
    paths = _literals(defaults) if policy == DEFAULT else _paths(policy)
    lines = [f"-w {path} -p wa -k bench" for path in (*paths, WATCHED)]
    return "\n".join(["-D", "-i", "-b 8192", *lines, ""])


def folders(policy: str, defaults: Path) -> str:
    """Return a shell script that makes what auditd needs to watch these paths: the folders above them."""
    paths = _literals(defaults) if policy == DEFAULT else _paths(policy)
    return "".join(f"mkdir -p {parent}\n" for parent in sorted({posixpath.dirname(path) for path in paths}))


def _paths(policy: str) -> list[str]:
    return [f"/srv/bench/{number % 50:02d}/file{number:04d}" for number in range(int(policy) - 1)]


def _literals(defaults: Path) -> list[str]:
    """Return what the default rules watch, without the part of each pattern from its first wildcard on."""
    text = defaults.read_text(encoding="utf-8")
    paths = (path.partition("*")[0] for path in _PATTERN.findall(text))
    return sorted({path.rstrip("/") for path in paths} - {""})
