"""Runs functions of `guest_actions.py` in a guest, and builds a program that ends as soon as possible."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.guest.base import Guest

_SCRIPT = Path(__file__).with_name("guest_actions.py")
_REMOTE = "/root/guest_actions.py"
QUICK = "/w/bin/quick"
_QUICK_C = """
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **words)
{
	_exit(open(words[count - 1], O_CREAT | O_WRONLY, 0600) < 0);
}
"""


@dataclass(frozen=True)
class Actions:
    """The actions in one guest."""

    guest: Guest

    @classmethod
    def put(cls, guest: Guest, scratch: Path) -> Actions:
        """Copy the script and the quick program into a guest, and create `/w`."""
        (scratch / "quick.c").write_text(_QUICK_C)
        program = scratch / "quick"
        subprocess.run(["cc", "-O2", "-static", "-s", "-o", program, scratch / "quick.c"], check=True)
        guest.run(["mkdir", "-p", "/w/bin"])
        guest.put(program, QUICK, 0o755)
        guest.put(_SCRIPT, _REMOTE)
        return cls(guest)

    def do(self, name: str, *words: str) -> Any:
        """Run one function, and return its results."""
        done = self.guest.run(["python3", _REMOTE, name, *words], 300)
        assert done.status == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)
