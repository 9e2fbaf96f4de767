"""Predicts the state of each hook on a kernel from its image and configuration, without booting it.

The state is `attached`; `absent` or `drifted` according to the kernel's BTF; or the failure that the kernel's
configuration causes for that kind of program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.hooks import needs, points, sets
from harness.errors import InfrastructureError
from harness.kernels import btf, configuration, payload

ATTACHED, ABSENT, DRIFTED = "attached", "absent", "drifted"

# The state of a kind that the configuration does not promise, and the kinds that need the same options.
_BROKEN = {"lsm": "silent", "fentry": "load-fail", "kprobe_multi": "attach-fail"}
_ALIKE = {"fexit": "fentry", "kretprobe": "kprobe", "kretprobe_multi": "kprobe_multi"}
_CERTAIN = (sets.RAW_TRACEPOINT, sets.TRACEPOINT)

Parameters = Mapping[str, tuple[str, ...]]


class Prediction(NamedTuple):
    """One hook with one kind of program: the function to attach to, the predicted state, and the reason."""

    hook: str
    kind: str
    target: str
    state: str
    words: str = ""


def of_image(image: Path, config: str, cmdline: str = "", *, kernel_btf: bool = True) -> list[Prediction]:
    """The predictions for a kernel image; see `predict`. Raises InfrastructureError if it cannot be read."""
    try:
        known = btf.functions(payload.type_information(image), set(_functions()))
    except btf.BtfError as error:
        raise InfrastructureError(f"{image}: invalid BTF: {error}") from error
    return list(predict(known, config, cmdline, kernel_btf=kernel_btf))


def predict(
    known: Parameters, config: str, cmdline: str = "", *, kernel_btf: bool = True
) -> Iterator[Prediction]:
    """The predictions for a kernel that has these functions with these parameters.

    `kernel_btf` is False for a guest that hides the kernel's BTF from the agent: no program that needs a
    trampoline can be loaded there.
    """
    for hook, kind in _programs():
        if not kernel_btf and kind in sets.TRAMPOLINES:
            yield Prediction(hook, kind, "", "load-fail", "the kernel's BTF is hidden")
            continue
        words = _unpromised(kind, config, cmdline)
        prediction = _by_functions(hook, kind, known)
        if words and prediction.state == ATTACHED:
            prediction = prediction._replace(state=_broken(_ALIKE.get(kind, kind), config), words=words)
        yield prediction


def _by_functions(hook: str, kind: str, known: Parameters) -> Prediction:
    targets = sets.candidates(hook, kind)
    if kind in _CERTAIN:
        return Prediction(hook, kind, targets[0], ATTACHED)
    for target in targets:
        parameters = known.get(_function(kind, target))
        if parameters is not None:
            words = points.drift(hook, parameters)
            return Prediction(hook, kind, target, DRIFTED if words else ATTACHED, words)
    return Prediction(hook, kind, "", ABSENT, f"no {' or '.join(targets)}")


def _unpromised(kind: str, config: str, cmdline: str) -> str:
    """The reason why a kind should not work here; "" if it should, or if the configuration is unknown."""
    kind = _ALIKE.get(kind, kind)
    if not config or kind not in _BROKEN or configuration.promised(kind, config, cmdline):
        return ""
    return f"the kernel's configuration does not promise {kind}"


def _broken(kind: str, config: str) -> str:
    """The state of a kind that the configuration does not promise."""
    attaches = kind == "kprobe_multi" and configuration.is_set(config, "CONFIG_FPROBE")
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
