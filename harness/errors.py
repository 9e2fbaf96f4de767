"""What can go wrong in the harness, and how it is said.

    HarnessError
    +-- ProductError         exit 1   the agent broke a promise
    |   +-- RefusedError              the agent answered that it cannot
    +-- ConfigError          exit 2   the command line or matrix.yaml is wrong
    |   +-- UnknownKernelError        no archive has this kernel (any more)
    +-- InfrastructureError  exit 3   download, disk, libvirt, QEMU, SSH with a healthy guest
    |   +-- HungError                 no answer before the deadline
    |   +-- MissingError              a machine has nothing to boot
    +-- IncompleteError      exit 4   the plan has cells or tests without a result

Each error is one line that says what and where, with a hint that says what to do. An exit code
is never a count.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of all errors the harness reports to people; `hint` says what to do next."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProductError(HarnessError):
    """The agent broke a promise."""

    exit_code = 1


class RefusedError(ProductError):
    """The agent answered that it cannot; `detail` holds longer evidence, such as a verifier log."""

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.detail = detail


class ConfigError(HarnessError):
    """The command line or a file it names is wrong."""

    exit_code = 2


class UnknownKernelError(ConfigError):
    """No archive has a kernel of that series: it was misspelt, or the archive has dropped it."""


class InfrastructureError(HarnessError):
    """Something between the plan and the guest failed; says nothing about the agent."""

    exit_code = 3


class HungError(InfrastructureError):
    """No answer of `program` before the deadline."""

    def __init__(self, message: str, *, hint: str = "", program: str = "the agent") -> None:
        super().__init__(message, hint=hint)
        self.program = program


class MissingError(InfrastructureError):
    """A machine has nothing to boot, and trying again in this run does not help."""


class IncompleteError(HarnessError):
    """Something that was planned has no result."""

    exit_code = 4
