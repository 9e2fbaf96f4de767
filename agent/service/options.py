"""Defines the options of `agent run`; the command line is generated from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STDOUT = "-"
JSON, ECS = "json", "ecs"
REFUSE, LEAVE_OUT = "refuse", "leave-out"  # what a rule with an error means at the start


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of `agent run`: one field for each option."""

    rules: tuple[Path, ...]  # files and folders
    output: str = STDOUT  # a file, - for stdout, empty for neither
    otlp: str = ""  # URL of a collector
    otlp_headers: Mapping[str, str] = field(default_factory=dict)  # --otlp-header NAME=VALUE, repeated
    syslog: str = ""  # unix:PATH, tcp://HOST:PORT or tls://HOST[:PORT]
    syslog_ca: Path | None = None  # certificates to trust instead of the system's
    journald: bool = False
    format: str = JSON  # of all sinks, or ECS
    spool: Path | None = Path("/var/lib/fim-agent/spool")  # a folder, used with --otlp
    spool_bytes: int = 64 << 20
    rate_limit: float = 0.0  # matches a second for each rule and user, 0 for no limit
    burst: int = 0  # matches at once for each rule and user, 0 for those of one second
    hash_changed: bool = False  # hash all changed files, not only for rules with the action `hash`
    hash_max_bytes: int = 16 << 20
    metrics_port: int | None = None  # on 127.0.0.1
    state: Path = Path("/var/lib/fim-agent")  # a folder for what survives a restart: the mutes
    heartbeat: float = 60.0  # seconds between two heartbeats, 0 for none
    control: Path = Path("/run/fim-agent/control.sock")
    hookset: str = "auto"
    btf: str = "kernel"
    transport: str = "ringbuf"
    keep_privileges: bool = False  # for debugging
    bad_rules: str = REFUSE  # or LEAVE_OUT; a reload always refuses and keeps the old rules
