"""`guest_deeds.py` from the host's side, and a program that lives no longer than it must."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.guest.base import Guest

_SCRIPT = Path(__file__).with_name("guest_deeds.py")
_REMOTE = "/root/guest_deeds.py"
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
class Deeds:
    """Deeds in one guest."""

    guest: Guest

    @classmethod
    def put(cls, guest: Guest, scratch: Path) -> Deeds:
        """Brings the script, the quick program and `/w` into a guest."""
        (scratch / "quick.c").write_text(_QUICK_C)
        program = scratch / "quick"
        subprocess.run(["cc", "-O2", "-static", "-s", "-o", program, scratch / "quick.c"], check=True)
        guest.run(["mkdir", "-p", "/w/bin"])
        guest.put(program, QUICK, 0o755)
        guest.put(_SCRIPT, _REMOTE)
        return cls(guest)

    def do(self, name: str, *words: str) -> Any:
        """Does it; what the kernel said."""
        done = self.guest.run(["python3", _REMOTE, name, *words], 300)
        assert done.status == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)
