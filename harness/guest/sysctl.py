"""Sets kernel parameters below /proc/sys in a guest, and checks that they hold."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import IncompleteError, InfrastructureError
from harness.guest.base import Guest
from harness.text import one_line

# Prints NAME=VALUE for each argument, after writing its value with "set". A file that does not exist, or of
# which the value cannot be read, prints nothing.
_SCRIPT = """
action=$1; shift
for setting; do
    name=${setting%%=*}
    file=/proc/sys/$(echo "$name" | tr . /)
    [ "$action" = check ] || printf '%s\\n' "${setting#*=}" 2>/dev/null >"$file"
    [ -r "$file" ] && echo "$name=$(tr '\\n\\t' '  ' 2>/dev/null <"$file")"
done
true
"""


def apply(guest: Guest, settings: Sequence[str], timeout_s: float) -> None:
    """Set each `NAME=VALUE`. Raises IncompleteError if a value does not hold, and GuestError."""
    _check(guest, "set", settings, timeout_s)


def check(guest: Guest, settings: Sequence[str], timeout_s: float) -> None:
    """Check that each `NAME=VALUE` still holds. Raises IncompleteError and GuestError."""
    _check(guest, "check", settings, timeout_s)


def _check(guest: Guest, action: str, settings: Sequence[str], timeout_s: float) -> None:
    done = guest.run(["sh", "-c", _SCRIPT, "sh", action, *settings], timeout_s)
    if done.status:
        raise InfrastructureError(f"sysctl: {one_line(done.stderr.decode('utf-8', 'replace'))}")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    found = {name: " ".join(value.split()) for name, _, value in (line.partition("=") for line in lines)}
    wrong = []
    for name, _, value in (setting.partition("=") for setting in settings):
        if name not in found:
            wrong.append(f"{name} does not exist")
        elif found[name] != " ".join(value.split()):
            wrong.append(f"{name} is {found[name]!r} instead of {value!r}")
    if wrong:
        raise IncompleteError(one_line(f"the cell's sysctl does not hold: {', '.join(wrong)}"))
