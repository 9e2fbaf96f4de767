"""Adds series that appeared in the repositories to a matrix, if their kernel can be a guest here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.errors import ConfigError, InfrastructureError, UnknownKernelError, UnsuitableKernelError
from harness.host.cache import Cache
from harness.host.progress import Progress, silent
from harness.kernels import ResolvedKernel, fetch, preflight
from harness.plan import checked, yaml

_ENTRY = '- {{name: "{series}", series: "{series}", flavour: {flavour}, tests: "@short", tags: [nightly]}}'
_KERNELS = re.compile(r"kernels:\s*(#.*)?")
_TOP = re.compile(r"(?!-\s)[^\s#]")  # a key of the whole file begins its line; entries may do so too
_FIRST = re.compile(r"( *)- ")
_TEXT = re.compile(r"\s*[^\s#]")

Refusal = UnsuitableKernelError | UnknownKernelError | InfrastructureError


def suitable(
    found: Iterable[ResolvedKernel], store: Cache, progress: Progress = silent
) -> tuple[list[ResolvedKernel], list[Refusal]]:
    """Fetch each kernel and check that it can be a guest; return those that can, and why others cannot."""
    good: list[ResolvedKernel] = []
    refused: list[Refusal] = []
    for kernel in found:
        try:
            preflight.check(fetch(kernel, store, progress))
        except (UnsuitableKernelError, UnknownKernelError, InfrastructureError) as error:
            refused.append(error)
        else:
            good.append(kernel)
    return good, refused


def added(text: str, name: str, kernels: Iterable[ResolvedKernel], flavour: str) -> str:
    """Return the text of a matrix with an entry for each series, at the end of its list of kernels.

    Each runs at night what differs between kernels. Raises ConfigError if `kernels` is no list of lines.
    """
    lines = text.removesuffix("\n").split("\n")
    start = next((at for at, line in enumerate(lines) if _KERNELS.fullmatch(line)), None)
    after = lines[start + 1 :] if start is not None else []
    block = after[: next((at for at, line in enumerate(after) if _TOP.match(line)), len(after))]
    while block and not _TEXT.match(block[-1]):
        block.pop()  # comments and empty lines belong to what follows
    first = next((found for line in block if (found := _FIRST.match(line))), None)
    refused = ConfigError(f"{name}: kernels: is not a list of lines", hint="write one `- ` entry a line")
    if start is None or not first:
        raise refused
    end = start + 1 + len(block)
    entries = (_ENTRY.format(series=one.series, flavour=flavour) for one in kernels)
    lines[end:end] = [first[1] + entry for entry in entries]
    changed = "\n".join(lines) + "\n"
    before, after_all = (yaml.parse(one.encode(), name) for one in (text, changed))
    checked.check(after_all)
    if after_all.data["kernels"][: len(before.data["kernels"])] != before.data["kernels"]:
        raise refused  # the last lines only look like comments
    return changed
