"""The table of what `harness bench` compares: each monitor, how it starts, and what its lines look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from harness.bench import policies
from harness.bench.places import DISK, FILES, OUTPUT, WATCHED
from harness.plan.matrix import Hookset

NONE = "none"
AGENT = "agent"


@dataclass(frozen=True)
class Monitor:
    """One monitor with one policy.

    `argv` starts it, and OUTPUT receives what it reports; if `wraps`, a workload's command line follows it. A
    line that reports the opening of a file matches the regular expression `line`, in which PATH is its path.
    The shell runs `prepare` before it starts and `arm` afterwards. `policy` is a name in `policies.POLICIES`.
    """

    name: str
    about: str
    argv: tuple[str, ...] = ()
    line: str = ""
    prepare: str = ""
    arm: str = ""
    folder: str = "/"
    wraps: bool = False
    policy: str = policies.DEFAULT

    @property
    def is_agent(self) -> bool:
        """Whether the guest needs the agent."""
        return self.name.startswith(AGENT)


def _agent(name: str, about: str, *options: str, policy: str = policies.DEFAULT) -> Monitor:
    argv = ("python3", "-m", "agent", "run", "--rules", f"{FILES}/policy.yaml", "--output", OUTPUT)
    control = ("--control", "/run/bench-agent.sock")
    line = r'"type":"open","path":"PATH"'
    return Monitor(name, about, (*argv, *control, *options), line, folder="/opt/fim", policy=policy)


def _auditd(name: str, about: str, policy: str = policies.DEFAULT) -> Monitor:
    conf = "/etc/audit/auditd.conf"
    settings = f"log_file = {OUTPUT}\\nmax_log_file_action = IGNORE\\nspace_left_action = IGNORE\\n"
    others = r"/^\(log_file\|max_log_file_action\|space_left_action\|log_group\) /d"
    return Monitor(
        name,
        about,
        ("auditd", "-n"),
        r'^type=PATH .* name="PATH" ',
        # auditctl refuses a watch whose parent does not exist.
        prepare=f"sed -i '{others}' {conf} && printf '{settings}' >>{conf} && sh {FILES}/folders.sh",
        arm=f"auditctl -R {FILES}/audit.rules >/dev/null 2>&1 || :; auditctl -l | grep -q {WATCHED}",
        policy=policy,
    )


_TRACEFS = (
    "mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug; "
    "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing"
)

# bcc is left out: it compiles in the guest, which needs the kernel's headers; what it loads is `kprobe`.
_SETS = [name for name in get_args(Hookset) if name not in ("auto", "bcc")]

MONITORS = (
    Monitor(NONE, "no monitor"),
    _agent(AGENT, "the agent with the default rules"),
    *(_agent(f"{AGENT}-{name}", f"only the hook set {name}", "--hookset", name) for name in _SETS),
    _agent(f"{AGENT}-opens", "one rule, on opens for writing", policy=policies.OPENS),
    *(
        _agent(f"{AGENT}-{count}", f"{count} rules", policy=str(count))
        for count in policies.COUNTS
    ),
    _auditd("auditd", "the watches of the default rules"),
    *(_auditd(f"auditd-{count}", f"{count} watches", str(count)) for count in policies.COUNTS[:2]),
    Monitor(
        "bpftrace",
        "opensnoop.bt, without a filter",
        ("sh", "-c", f"exec bpftrace -B line /usr/sbin/opensnoop.bt >{OUTPUT}"),
        r" PATH$",
        prepare=_TRACEFS,
    ),
    Monitor(
        "fatrace",
        "fanotify, all of one file system",
        ("sh", "-c", f"exec fatrace --current-mount >{OUTPUT}"),
        r": [A-Z]*O[A-Z]* +PATH$",
        folder=DISK,
    ),
    Monitor(
        "inotifywait",
        "inotify, one folder",
        ("inotifywait", "-m", "-r", "-q", "--format", "%e %w%f", "-o", OUTPUT, WATCHED),
        r"^OPEN PATH$",
    ),
    Monitor("strace", "all system calls", ("strace", "-f", "-o", OUTPUT), r'"PATH"', wraps=True),
)  # fmt: skip


def names() -> Sequence[str]:
    """Return the names of all monitors, in the order of the table."""
    return [monitor.name for monitor in MONITORS]
