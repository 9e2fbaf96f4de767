"""Defines the errors of the agent, with their exit codes.

    AgentError                   exit 1
    +-- UsageError               exit 2   the command line or a file it names is wrong
    |   +-- RuleErrors           exit 2   rule files do not load; has every error, not only the first
    +-- KernelError              exit 3   this kernel refused something that was needed
        +-- MinimumNotMetError        exit 4   the minimum set of hooks is not available

The message of an error is one line that says what is wrong and where. Its hint says what to type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a hint with the known word that is most similar, or "" if none is similar enough."""
    import difflib  # lazy: only needed for an error

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else ""


class AgentError(Exception):
    """Base of all errors that the agent reports to users.

    `hint` says what to do next; `detail` has longer evidence, such as a verifier log.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class UsageError(AgentError):
    """The command line, or a file it names, is wrong."""

    exit_code = 2


class RuleErrors(UsageError):  # noqa: N818 - it stands for several errors
    """Rule files do not load; `problems` has every error, in the order of files and lines.

    A problem prints as `file:line:column: message`, the line, a caret below it and a hint.
    """

    def __init__(self, problems: Sequence[object]) -> None:
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(f"{count} in rule files", detail="\n".join(map(str, problems)))
        self.problems = tuple(problems)


class KernelError(AgentError):
    """The kernel refused something that was needed."""

    exit_code = 3


class MinimumNotMetError(KernelError):
    """The minimum set of hooks is not available on this kernel."""

    exit_code = 4
