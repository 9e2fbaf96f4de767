"""The errors that the harness reports to the user, and their exit codes.

    HarnessError
    +-- ProductError             exit 1   the agent broke a promise
    |   +-- RefusedError                  the agent answered that it cannot do something
    |   +-- BrokenServerError             the self-test server ended early or broke its protocol
    +-- ConfigError              exit 2   the command line, or a file that it names, is wrong
    |   +-- UnknownKernelError            no archive has the kernel
    |   +-- UnsuitableKernelError         the kernel lacks what a guest needs
    +-- InfrastructureError      exit 3   a network, disk, program or machine failed, not the agent
    |   +-- ProgramError                  a program of the host failed
    |   +-- BuildError                    the canary that measures accelerators cannot be built
    |   +-- HungError                     no answer before the deadline
    |   +-- MissingError                  a machine has nothing to boot
    |   +-- NoKvmError                    KVM was required and boots no guest
    |   +-- StartError                    a machine did not start
    |   |   +-- PortTakenError            no port was free for it
    |   +-- MachineDiedError              a machine ended
    |   +-- AbsentError                   a repository does not have a file
    |   +-- NotAcceptedError              a kernel of the user did not boot each time
    |   +-- GuestError                    an operation in a guest failed
    |       +-- GuestLostError            the connection to the guest ended
    |       +-- GuestTimeoutError         the guest did not answer in time; also a HungError
    |       +-- GuestFileError            a file of the guest cannot be read or written
    |       +-- TooMuchOutputError        a command printed more than its limit
    +-- IncompleteError          exit 4   a planned cell or test has no result
        +-- OutOfTimeError                the time limit of the run is over

The message is one line with the cause and the place; the hint is what to type or do next. An exit code is
never a count.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of all errors that are reported to the user; `hint` is what to type or do next."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProductError(HarnessError):
    """The agent broke a promise."""

    exit_code = 1


class RefusedError(ProductError):
    """The agent answered that it cannot do something; `detail` is evidence, such as a verifier log."""

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.detail = detail


class ConfigError(HarnessError):
    """The command line, or a file that it names, is wrong."""

    exit_code = 2


class UnknownKernelError(ConfigError):
    """No archive has a kernel of that series: it is misspelt, or the archive no longer has it."""


class UnsuitableKernelError(ConfigError):
    """The kernel lacks what a guest needs, by its configuration or modules, or it does not boot."""


class InfrastructureError(HarnessError):
    """Something other than the agent failed, so the error says nothing about the agent."""

    exit_code = 3


class HungError(InfrastructureError):
    """`program` did not answer before the deadline."""

    def __init__(self, message: str, *, hint: str = "", program: str = "the agent") -> None:
        super().__init__(message, hint=hint)
        self.program = program


class MissingError(InfrastructureError):
    """A machine has nothing to boot, and another attempt in this run cannot help."""


class NotAcceptedError(InfrastructureError):
    """A kernel did not boot in one of the starts that come before its cells; `error` is the failure."""

    def __init__(self, start: str, error: HarnessError) -> None:
        super().__init__(f"kernel not accepted: {start}: {error.message}", hint=error.hint)
        self.start = start
        self.error = error


class IncompleteError(HarnessError):
    """A planned cell or test has no result."""

    exit_code = 4
