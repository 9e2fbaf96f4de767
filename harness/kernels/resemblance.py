"""Compares a kernel's configuration with those of distributions, by options that matter to the agent.

The table holds what was read in the configurations of distributions (kernel-hardening-checker,
linux-kernel-configs, siderolabs/pkgs, Debian's packages). A kernel that resembles a distribution has mostly
the same hooks; it is not that distribution's kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.kernels import preflight

Traits = Mapping[str, str]

_LSM = re.compile(r'"(.*)"')
_PREEMPTION = {
    "PREEMPT_LAZY": "lazy",
    "PREEMPT": "full",
    "PREEMPT_VOLUNTARY": "voluntary",
    "PREEMPT_NONE": "none",
}
_MOST = {
    "SECURITY_PATH": "y",
    "bpf in the list of LSMs": "y",
    "FPROBE": "y",
    "IO_URING": "y",
    "DEBUG_INFO_BTF": "y",
    "BPF_JIT_ALWAYS_ON": "y",
    "preemption": "voluntary",
}

# What differs from `_MOST`, newest release last.
DISTRIBUTIONS: Mapping[str, Traits] = {
    "Amazon Linux 2": {"SECURITY_PATH": "n", "FPROBE": "n", "preemption": "none"},
    "Amazon Linux 2023": {"FPROBE": "n", "preemption": "none"},
    "Arch": {"preemption": "full"},
    "Azure Linux 3 or Oracle UEK": {"bpf in the list of LSMs": "n", "FPROBE": "n"},
    "Debian 11": {"bpf in the list of LSMs": "n", "FPROBE": "n", "BPF_JIT_ALWAYS_ON": "n"},
    "Debian 12": {"FPROBE": "n", "BPF_JIT_ALWAYS_ON": "n"},
    "Debian 13": {"BPF_JIT_ALWAYS_ON": "n"},
    "Fedora 42": {"preemption": "lazy"},
    "RHEL 9.0": {"SECURITY_PATH": "n", "IO_URING": "n", "FPROBE": "n"},
    "RHEL 9.2": {"IO_URING": "n"},
    "SLES 15 SP3": {"bpf in the list of LSMs": "n", "DEBUG_INFO_BTF": "n", "FPROBE": "n"},
    "Ubuntu 24.04": {"bpf in the list of LSMs": "n"},
}


@dataclass(frozen=True)
class Resemblance:
    """The distributions with the most equal traits, and what differs from them: trait, here, there."""

    names: tuple[str, ...]
    differences: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        names = " and ".join(self.names)
        if not self.differences:
            return f"configuration: has all {len(_MOST)} compared traits of {names}"
        words = ", ".join(f"{trait} {here} (there {there})" for trait, here, there in self.differences)
        return f"configuration: resembles {names} most; differs in {words}"


def of(config: str) -> Resemblance:
    """The distributions that a configuration resembles most."""
    here = traits(config)
    differing = {name: _differences(here, {**_MOST, **own}) for name, own in DISTRIBUTIONS.items()}
    least = min(len(rows) for rows in differing.values())
    names = tuple(name for name, rows in differing.items() if len(rows) == least)
    return Resemblance(names[:3], differing[names[0]])


def traits(config: str) -> dict[str, str]:
    """The compared traits of a configuration."""
    options = preflight.settings(config)
    modules = _LSM.search(options.get("LSM", ""))
    found = {name: "y" if options.get(name) == "y" else "n" for name in _MOST}
    found["bpf in the list of LSMs"] = "y" if modules and "bpf" in modules[1].split(",") else "n"
    kinds = (kind for option, kind in _PREEMPTION.items() if options.get(option) == "y")
    found["preemption"] = next(kinds, "none")
    return found


def _differences(here: Traits, there: Traits) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, here[name], there[name]) for name in _MOST if here[name] != there[name])
