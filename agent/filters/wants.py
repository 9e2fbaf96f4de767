"""Derives from a condition the values that the kernel can test, for the approvers.

`wants(condition)` is a set of values such that every event that fulfils the condition matches at least one of
them. For an `&&` the best item is enough, an `||` needs all its items, and for a condition that the kernel
cannot test the result is a refusal with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from agent.rules import fields, tree
from agent.rules.constants import WRITE_FLAGS
from agent.rules.operands import compute
from agent.rules.patterns import Matcher, Pattern

BASENAME, PATH, PREFIX = "basename", "path", "prefix"
ANY_FLAG, RDONLY, USER, LOGIN, UPPER = "flags", "read-only", "uid", "auid", "upper layer"
INODE = "inode"
PATHS = (BASENAME, PATH, PREFIX)
MAX_MASK_BITS = 12  # bits of a mask of which all values are enumerated
MAX_NAME = 255  # bytes of a component
WORD = 0xFFFFFFFF  # users and flags of events are 32-bit numbers
LONG = 0xFFFFFFFFFFFFFFFF  # inode numbers have 64 bits
ACCESS = os.O_ACCMODE


class Want(NamedTuple):
    """One value of one kind; with `writes` it must match only opens with a flag of `WRITE_FLAGS`."""

    kind: str
    value: bytes | int
    writes: bool = False


class Refusal(NamedTuple):
    """Why the kernel cannot test a condition."""

    reason: str


Wants = frozenset[Want] | Refusal

# The cost of a value estimates how many of a host's events it lets pass. A user lets pass all events of that
# user, a flag those of every process. A deep directory costs less than a shallow one.
_COST = {PATH: 1, INODE: 1, BASENAME: 2, LOGIN: 300, UPPER: 500, USER: 800, ANY_FLAG: 1_000, RDONLY: 10_000}
_SHALLOW = 400


def cost(wanted: frozenset[Want]) -> int:
    """Estimate how many events a set of values lets pass."""
    return sum(_cost(want) for want in wanted)


def _cost(want: Want) -> int:
    if want.kind != PREFIX or not isinstance(want.value, bytes):
        return _COST[want.kind]
    return max(4, _SHALLOW >> 2 * (want.value.count(b"/") - 1)) // (2 if want.writes else 1)


def wants(condition: tree.Condition) -> Wants:
    """Return values of which every matching event has one, or a refusal.

    The negations of the condition must be at its leaves.
    """
    if isinstance(condition, tree.Always):
        return Refusal("it is always true") if condition.value else frozenset()
    if isinstance(condition, tree.Any):
        return _any(condition)
    if isinstance(condition, tree.All):
        return _all(condition)
    if isinstance(condition, tree.Flag):
        upper = condition.field.role in (fields.UPPER, fields.UPPER2)
        return frozenset({Want(UPPER, 1)}) if upper else _unknown(condition.field.name)
    if isinstance(condition, tree.Match):
        return _match(condition)
    if isinstance(condition, tree.Compare | tree.Member):
        return _number(condition)
    return _other(condition)


def _any(condition: tree.Any) -> Wants:
    union: frozenset[Want] = frozenset()
    for item in condition.items:
        wanted = wants(item)
        if isinstance(wanted, Refusal):
            return wanted
        union |= wanted
    return union


def _all(condition: tree.All) -> Wants:
    answers = [wants(item) for item in condition.items]
    served = [answer for answer in answers if not isinstance(answer, Refusal)]
    if not served:
        reasons = dict.fromkeys(answer.reason for answer in answers if isinstance(answer, Refusal))
        return Refusal("; ".join(reasons))
    if any(implies_write(item) for item in condition.items):
        served = [frozenset(want._replace(writes=want.kind in PATHS) for want in wanted) for wanted in served]
    return min(served, key=cost)


def implies_write(condition: tree.Condition) -> bool:
    """Whether the condition holds only for opens with a flag of `WRITE_FLAGS`."""
    if isinstance(condition, tree.All):
        return any(implies_write(item) for item in condition.items)
    if isinstance(condition, tree.Any):
        return bool(condition.items) and all(implies_write(item) for item in condition.items)
    if isinstance(condition, tree.Compare | tree.Member) and _role(condition) == fields.FLAGS:
        values = _flag_values(condition)
        return values is not None and all(value & WRITE_FLAGS for value in values)
    return False


def _unknown(name: str) -> Refusal:
    return Refusal(f"the kernel does not know {name}")


def _other(condition: tree.Condition) -> Refusal:
    names = ", ".join(sorted(field.name for field in tree.fields_of(condition)))
    if isinstance(condition, tree.Not):
        return Refusal(f"it tests what {names} is not")
    if isinstance(condition, tree.FlagVariable):
        return Refusal(f"it depends on the variable {condition.name}")
    return Refusal(f"the value that {names} is compared with is not a constant")


def _match(condition: tree.Match) -> Wants:
    role, name, matcher = condition.field.role, condition.field.name, condition.matcher
    if role in (fields.FILE_PATH, fields.FILE2_PATH):
        return _paths(name, matcher)
    if role in (fields.FILE_NAME, fields.FILE2_NAME):
        if matcher.patterns:
            return Refusal(f"{name} is compared with a pattern")
        if any(not value or _too_long(value) for value in matcher.exact):
            return Refusal(f"{name} is compared with an empty name or one of more than {MAX_NAME} bytes")
        return frozenset(Want(BASENAME, value) for value in matcher.exact)
    return _unknown(name)


def _paths(name: str, matcher: Matcher) -> Wants:
    if any(value in (b"", b"/") or _too_long(value) for value in matcher.exact):
        return Refusal(f"{name} is compared with /, an empty path or a name of more than {MAX_NAME} bytes")
    values = {Want(PATH, value) for value in matcher.exact}
    for pattern in matcher.patterns:
        wanted = _pattern(pattern)
        if wanted is None:
            shown = pattern.text.decode("utf-8", "backslashreplace")
            return Refusal(f"{name} is compared with `{shown}`, which fixes no directory or file name")
        values.add(wanted)
    return frozenset(values)


def _too_long(path: bytes) -> bool:
    """Whether a component is longer than the kernel allows."""
    return any(len(component) > MAX_NAME for component in path.split(b"/"))


def _pattern(pattern: Pattern) -> Want | None:
    """Return the base name or the directory that all matches share, whichever costs less, or None."""
    directory = pattern.prefix.rpartition(b"/")[0]
    usable = directory.startswith(b"/") and not _too_long(directory)
    candidates = [Want(PREFIX, directory)] if usable else []
    if pattern.last_component and not _too_long(pattern.last_component):
        candidates.append(Want(BASENAME, pattern.last_component))
    return min(candidates, key=_cost, default=None)


def _role(condition: tree.Compare | tree.Member) -> str:
    """Return the role of the only field of a comparison, "" if it has several fields or none."""
    found = tree.fields_of(condition)
    return next(iter(found)).role if len(found) == 1 else ""


def _number(condition: tree.Compare | tree.Member) -> Wants:
    role = _role(condition)
    names = ", ".join(sorted(field.name for field in tree.fields_of(condition)))
    if role == fields.FLAGS:
        return _flags(condition)
    if role in (fields.FILE_INODE, fields.FILE2_INODE):
        values = _equal_to(condition, LONG)
        if values is None:
            return Refusal(f"{names} is not compared with single values")
        return frozenset(Want(INODE, value) for value in values)
    if role in (fields.UID, fields.AUID):
        values = _equal_to(condition)
        if values is None:
            return Refusal(f"{names} is not compared with single values")
        return frozenset(Want(USER if role == fields.UID else LOGIN, value) for value in values)
    return _unknown(names) if names else Refusal("it uses no field of the event")


def _equal_to(condition: tree.Compare | tree.Member, most: int = WORD) -> frozenset[int] | None:
    """Return the values up to `most` that a field is compared with by `==` or `in`, None if it is not."""
    if not isinstance(condition.left, tree.IntField):
        return None
    if isinstance(condition, tree.Member):
        return frozenset(value for value in condition.values if 0 <= value <= most)
    if condition.operator == "==" and isinstance(condition.right, tree.IntConst):
        return frozenset({condition.right.value} if 0 <= condition.right.value <= most else ())
    return None


def _flags(condition: tree.Compare | tree.Member) -> Wants:
    values = _flag_values(condition)
    if values is None:
        return Refusal("open.flags is not compared with single flags")
    mask, wanted = _mask(condition), set()
    full = mask & ACCESS == ACCESS
    nonzero = [value for value in values if value]
    if len(nonzero) < len(values):  # it holds also without any of the flags
        if not full:
            return Refusal("it tests for flags that are not set")
        wanted.add(Want(RDONLY, 1))
    if nonzero:
        wanted.add(Want(ANY_FLAG, _common_mask(nonzero)))
    return frozenset(wanted)


def _common_mask(values: list[int]) -> int:
    """Return a mask that has a bit in common with each value: one common bit, or all their bits."""
    common, union = values[0], 0
    for value in values:
        common &= value
        union |= value
    return common & -common or union


def _flag_values(condition: tree.Compare | tree.Member) -> list[int] | None:
    """Return the values of the masked flags for which the condition holds; None if that is unknown."""
    exact = _equal_to(condition)
    if exact is not None:
        return sorted(exact)
    mask = _mask(condition)
    if mask < 0 or mask.bit_count() > MAX_MASK_BITS:
        return None
    return [value for value in _subsets(mask) if _holds(condition, value)]


def _mask(condition: tree.Compare | tree.Member) -> int:
    """Return the mask of flags that a condition tests, -1 for all."""
    sides = (condition.left,) if isinstance(condition, tree.Member) else (condition.left, condition.right)
    masks = [_masked(side) for side in sides]
    if any(mask < 0 for mask in masks):
        return -1
    mask = 0
    for side in masks:
        mask |= side
    return mask & WORD


def _masked(node: tree.Ints) -> int:
    if isinstance(node, tree.IntField | tree.IntVariable):
        return -1
    if isinstance(node, tree.IntConst):
        return 0
    if node.operator == "&":
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(side, tree.IntConst) and side.value >= 0 and isinstance(other, tree.IntField):
                return side.value
    left, right = _masked(node.left), _masked(node.right)
    return -1 if min(left, right) < 0 else left | right


def _subsets(mask: int) -> Iterator[int]:
    value = mask
    while True:
        yield value
        if not value:
            return
        value = (value - 1) & mask


def _holds(condition: tree.Compare | tree.Member, flags: int) -> bool:
    left = _value(condition.left, flags)
    if isinstance(condition, tree.Member):
        return left in condition.values
    right = _value(condition.right, flags)
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[condition.operator]


def _value(node: tree.Ints, flags: int) -> int:
    if isinstance(node, tree.IntConst):
        return node.value
    if isinstance(node, tree.IntOp):
        return compute(node.operator, _value(node.left, flags), _value(node.right, flags))
    return flags
