"""Predicts the state of each hook on a kernel from its image and configuration, without booting it.

The state is `attached`; `absent` or `drifted` according to the kernel's BTF; or the failure that the kernel's
configuration causes for that kind of program.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.hooks import needs, points, sets
from harness.errors import InfrastructureError
from harness.kernels import btf, configuration, payload

ATTACHED, ABSENT, DRIFTED = "attached", "absent", "drifted"

# The state of a kind that the configuration does not promise, and the kinds that need the same options.
_BROKEN = {
    "lsm": "silent",
    "fentry": "load-fail",
    "fexit": "load-fail",
    "kprobe": "attach-fail",
    "kretprobe": "lossy",  # as without tracefs
    "kprobe_multi": "attach-fail",
    "kretprobe_multi": "attach-fail",
    "tracepoint": "attach-fail",
}
_ALIKE = {"fexit": "fentry", "kretprobe": "kprobe", "kretprobe_multi": "kprobe_multi"}
_TRACEPOINTS = (sets.RAW_TRACEPOINT, sets.TRACEPOINT)

# Before this version a trampoline of x86 passes six arguments at most, and the kernel refuses to attach to a
# function with more ("bpf, x86: allow function arguments up to 12 for TRACING").
_MANY_ARGUMENTS = (6, 6)
_FEW = 6

Parameters = Mapping[str, tuple[str, ...]]


class Prediction(NamedTuple):
    """One hook with one kind of program: the function to attach to, the predicted state, and the reason."""

    hook: str
    kind: str
    target: str
    state: str
    words: str = ""


def of_image(
    image: Path, config: str, cmdline: str = "", sysctl: Collection[str] = (), *, kernel_btf: bool = True
) -> list[Prediction]:
    """The predictions for a kernel image; see `predict`. Raises InfrastructureError if it cannot be read."""
    try:
        known = btf.functions(payload.type_information(image), set(_functions()))
    except btf.BtfError as error:
        raise InfrastructureError(f"{image}: invalid BTF: {error}") from error
    return list(predict(known, config, cmdline, sysctl, kernel_btf=kernel_btf))


def predict(
    known: Parameters,
    config: str,
    cmdline: str = "",
    sysctl: Collection[str] = (),
    *,
    kernel_btf: bool = True,
) -> Iterator[Prediction]:
    """The predictions for a kernel that has these functions with these parameters.

    `kernel_btf` is False for a guest that hides the kernel's BTF from the agent: no program that needs a
    trampoline can be loaded there.
    """
    for hook, kind in _programs():
        if not kernel_btf and kind in sets.TRAMPOLINES:
            yield Prediction(hook, kind, "", "load-fail", "the kernel's BTF is hidden")
        elif words := _unpromised(kind, config, cmdline, sysctl):
            prediction = _by_functions(hook, kind, known, config)
            yield prediction._replace(state=_broken(kind, config), words=words)
        else:
            yield _by_functions(hook, kind, known, config)


def _by_functions(hook: str, kind: str, known: Parameters, config: str) -> Prediction:
    targets = sets.candidates(hook, kind)
    if kind in _TRACEPOINTS:
        return Prediction(hook, kind, targets[0], ATTACHED)
    refused = None
    for target in targets:
        parameters = known.get(_function(kind, target))
        if parameters is None:
            continue
        if _too_many(kind, parameters, config):
            words = f"{target} has {len(parameters)} arguments"
            refused = Prediction(hook, kind, target, "attach-fail", words)
            continue
        words = points.drift(hook, parameters)
        return Prediction(hook, kind, target, DRIFTED if words else ATTACHED, words)
    return refused or Prediction(hook, kind, "", ABSENT, f"no {' or '.join(targets)}")


def _too_many(kind: str, parameters: tuple[str, ...], config: str) -> bool:
    """Whether the trampolines of this kernel do not pass all arguments of a function."""
    limited = kind in ("fentry", "fexit") and len(parameters) > _FEW
    return (
        limited
        and configuration.is_set(config, "CONFIG_X86")
        and configuration.version(config) < _MANY_ARGUMENTS
    )


def _unpromised(kind: str, config: str, cmdline: str, sysctl: Collection[str]) -> str:
    """The reason why a kind should not work here; "" if it should, or if the configuration is unknown."""
    kind = _ALIKE.get(kind, kind)
    if not config or kind not in _BROKEN or configuration.promised(kind, config, cmdline, sysctl):
        return ""
    return f"the kernel's configuration does not promise {kind}"


def _broken(kind: str, config: str) -> str:
    """The state of a kind that the configuration does not promise."""
    attaches = _ALIKE.get(kind, kind) == "kprobe_multi" and configuration.is_set(config, "CONFIG_FPROBE")
    return "lossy" if attaches else _BROKEN[kind]


def _programs() -> Iterator[tuple[str, str]]:
    """Every hook with every kind of program that a hook set uses for it."""
    for hook in needs.HOOKS:
        for kind in dict.fromkeys(sets.kind_of(hook, hookset) for hookset in sets.SETS):
            if kind:
                yield hook, kind


def _functions() -> Iterator[str]:
    for hook, kind in _programs():
        yield from (_function(kind, target) for target in sets.candidates(hook, kind))


def _function(kind: str, target: str) -> str:
    return f"bpf_lsm_{target}" if kind == "lsm" else target
