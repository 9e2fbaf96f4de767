"""All deadlines of the harness in one table, and `Pace`, which extends them for a slow guest or a busy host.

The deadlines are for an emulated guest that has a CPU of its own. Those marked "paced" go through
`Pace.within`: a slower guest, or a busy host, gets up to `MOST` times as much, so that a busy host does not
look like a fault of the agent, and no wait goes beyond the deadline of the run. Use a constant as
`deadlines.NAME`, so that a test that changes it here changes it everywhere.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import IncompleteError

# A cell, from the boot of its machine to its end.
BOOT_S = 120.0  # paced: from the start of QEMU until a command has run in the guest
WARM_SHARE = 0.25  # of the boot's deadline, for a restore; usually it takes a tenth
SILENT_SHARE = 0.125  # of the boot's deadline: a kernel that printed nothing under KVM is started under TCG
SILENT_MOST_S = 30.0  # limit of that silence on a busy host; on a quiet host the first line takes 1 s
MEASURE_S = 60.0  # the loop that measures the guest's slowness
DEPLOY_S = 120.0  # unpack the agent in the guest
UPDATE_S = 60.0  # `run --watch`: unpack the changed files in the guest
LOAD_S = 90.0  # paced: start the self-test server; load and attach the next program of a hook set
COMPILE_S = 300.0  # paced: added to LOAD_S if the guest compiles the programs (bcc)
TEST_S = 30.0  # paced: one scenario, times 1 + its cost in seconds. The agent's MAX_PATIENCE_S is shorter
PING_S = 10.0  # paced: an error is the guest's own if the guest answers within this time
LEFTOVERS_S = 3.0  # paced: what an agent left may disappear by itself
CONSOLE_S = 10.0  # paced: the console shows what was written to the guest's kernel log
LOOK_S = 120.0  # list the guest's programs, mounts and processes once, maybe with Python
QUIT_S = 120.0  # the server's end; an emulated -rt kernel takes almost a second to detach each kprobe
HUNG_QUIT_S = 10.0  # the same, for a server that did not answer before
SYSCTL_S = 30.0  # set or read kernel parameters
DMESG_S = 10.0  # read the guest's kernel log as evidence
SUITE_DMESG_S = 30.0  # read the guest's kernel log for the verdict of a user's program
BENCH_TRIAL_S = 3600.0  # `harness bench`: all workloads beside one monitor
KEEP_S = 10.0  # a machine that is to be kept for the user must answer

# A connection to a guest.
SESSION_S = 60.0  # open a session; paramiko's own limit is an hour
UPLOAD_S = 60.0  # the guest accepts one piece of a file; a guest that stopped sends no error

# QEMU and libvirt.
START_S = 30.0  # libvirt's call that starts a domain
QEMU_EXIT_S = 10.0  # after SIGKILL
PUT_AWAY_S = 4.0  # libvirt forgets a domain whose QEMU exited
EVENT_LOOP_S = 5.0  # a callback that is running when the process exits
EXPLAIN_S = 5.0  # a watcher reports how a machine ended
TRACE_QUIET_S = 0.5  # a console that is quiet for so long after "Kernel panic" contains the whole trace
TRACE_MOST_S = 3.0  # after this time it contains enough of the trace, even if it never becomes quiet

# This host.
CANARY_TCG_S = 60.0  # the program that tries an accelerator, under TCG
CANARY_KVM_S = 3.0  # the same under KVM, or CANARY_KVM_TIMES as long as TCG took
CANARY_KVM_TIMES = 5.0  # a KVM that works is several times faster than TCG
GIT_S = 20.0  # `git` describes the tree
WORKER_EXIT_S = 10.0  # a worker process, after SIGKILL
GRACE_S = 3.0  # workers end by themselves at the run's deadline and report more than after this signal

# A cluster.
CONNECT_S = 15.0  # the scheduler accepts a connection
HANDSHAKE_S = 30.0  # and answers
SCHEDULER_S = 60.0  # a scheduler that does not answer for so long is lost
WORKER_START_S = 120.0  # a worker process has started and joined
FACTS_S = 180.0  # a worker looks at its host; the canary is in it
JOIN_S = 240.0  # all workers answer a new client; one may look at its host, or hang until it is lost
CHILD_LOOK_S = 0.5  # a worker looks this often whether its machine is still wanted
CHILD_EXIT_S = 60.0  # the run of a machine ends after its worker wants it to
WORKER_TTL_S = 60.0  # a worker that is silent for so long is lost
GATHER_S = 600.0  # the output of a machine arrives
WORKER_BACK_S = 60.0  # a lost worker comes back, or the first one joins, if no other can run what is left

ORDINARY = 30.0  # slowness of the emulated CPU that the deadlines were chosen for; 1 is real hardware
MOST = 8.0  # factor by which a deadline grows at most; a host that needs more is broken


class OutOfTimeError(IncompleteError):
    """The run's own deadline has passed."""


def host_load() -> float:
    """Return the number of runnable programs per CPU of this host."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


@dataclass
class Pace:
    """The deadline of the run; `ends_at` is on the monotonic clock, which all processes of a host share."""

    ends_at: float | None = None
    limit_s: float = 0.0  # the deadline that the user asked for, to print it
    slowness: float = ORDINARY
    load: Callable[[], float] = field(default=host_load)

    def left(self) -> float:
        """Return the seconds until the deadline of the run; infinite without a deadline."""
        return math.inf if self.ends_at is None else self.ends_at - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTimeError if the deadline of the run has passed."""
        if self.left() <= 0:
            raise OutOfTimeError(self.why)

    @property
    def why(self) -> str:
        """The reason to record for everything that the deadline prevented."""
        return f"the run's deadline of {self.limit_s:g} s has passed"

    def stretch(self) -> float:
        """Return the factor for deadlines of the code, at least 1."""
        return min(MOST, max(1.0, self.slowness / ORDINARY) * max(1.0, self.load()))

    def within(self, seconds: float) -> float:
        """Return the deadline in seconds for an operation that takes at most `seconds` in an ordinary guest.

        Raises OutOfTimeError if the deadline of the run has passed.
        """
        self.check()
        return min(seconds * self.stretch(), self.left())
