"""Attaches the programs of `agent probe` to a function that the agent uses, as another process would."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import ExitStack

from agent.kernel.capabilities import KINDS, MAPS, attach, probed
from agent.kernel.libbpf import Object
from agent.kernel.loader import object_path

FOREIGN_KINDS = ("lsm", "fentry", "fexit", "kprobe", "kretprobe")  # all where a file is opened

_NUMBER = struct.Struct("=I")
_COUNT = struct.Struct("=Q")


class Foreign:
    """One program of each kind; each counts the opens of one process."""

    def __init__(self, kinds: Iterable[str], pid: int) -> None:
        self.kinds = tuple(kinds)
        wanted = [f"probe__{kind}" for kind in self.kinds]
        with ExitStack() as undo:
            probe = Object(str(object_path()))
            undo.callback(probe.close)
            target = probed()
            for name, program in probe.programs.items():
                program.choose(name in wanted)
                if name in wanted and not name.startswith("probe__k"):
                    program.target(target.hook if name == "probe__lsm" else target.number)
            for name, bpf_map in probe.maps.items():
                if name not in MAPS:
                    bpf_map.skip()
            probe.load()
            self._counts = probe.maps["probes"]
            self._counts.update(_NUMBER.pack(0), _COUNT.pack(pid))
            for kind in self.kinds:
                link = attach(probe.programs[f"probe__{kind}"], kind, target.function)
                undo.callback(link.close)
            self._undo = undo.pop_all()

    def counts(self) -> dict[str, int]:
        """Return the number of opens that each program has seen."""
        return {kind: self._count(1 + KINDS.index(kind)) for kind in self.kinds}

    def close(self) -> None:
        """Detach the programs."""
        self._undo.close()

    def _count(self, index: int) -> int:
        return int(_COUNT.unpack(self._counts.lookup(_NUMBER.pack(index)) or bytes(_COUNT.size))[0])
