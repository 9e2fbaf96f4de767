"""What a condition wants of an event, in terms the kernel can check.

The partial evaluation behind the approvers.

`wants(condition)` is a set of values such that every event that fulfils the condition fits at least one of
them. Of an `&&` the best item will do, an `||` needs all of its items, and a leaf that the kernel cannot
check is refused with the reason.
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
PATHS = (BASENAME, PATH, PREFIX)
MAX_MASK_BITS = 12  # of a mask whose values are tried one by one
MAX_NAME = 255  # bytes of a component
WORD = 0xFFFFFFFF  # users and flags are 32-bit numbers: an event has no others
ACCESS = os.O_ACCMODE


class Want(NamedTuple):
    """One value of one kind; `writes` says that only opens with a flag of `WRITE_FLAGS` count."""

    kind: str
    value: bytes | int
    writes: bool = False


class Refusal(NamedTuple):
    """Why the kernel cannot serve a condition."""

    reason: str


Wants = frozenset[Want] | Refusal

# What one value of a kind costs: a guess at how many of a machine's events it lets through. A user lets
# through all that it does, a flag every process; a deep directory is cheaper than a shallow one.
_COST = {PATH: 1, BASENAME: 2, LOGIN: 300, UPPER: 500, USER: 800, ANY_FLAG: 1_000, RDONLY: 10_000}
_SHALLOW = 400


def cost(wanted: frozenset[Want]) -> int:
    """How much a set of values is expected to let through; smaller is better."""
    return sum(_cost(want) for want in wanted)


def _cost(want: Want) -> int:
    if want.kind != PREFIX or not isinstance(want.value, bytes):
        return _COST[want.kind]
    return max(4, _SHALLOW >> 2 * (want.value.count(b"/") - 1)) // (2 if want.writes else 1)


def wants(condition: tree.Condition) -> Wants:
    """What an event needs so that the condition can hold. The condition has its negations at the leaves."""
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
    found: frozenset[Want] = frozenset()
    for item in condition.items:
        wanted = wants(item)
        if isinstance(wanted, Refusal):
            return wanted
        found |= wanted
    return found


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
    """Whether the condition holds only for opens that have a flag of `WRITE_FLAGS`."""
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
        return Refusal(f"it asks what {names} is not")
    if isinstance(condition, tree.FlagVariable):
        return Refusal(f"it depends on the variable {condition.name}")
    return Refusal(f"the value that {names} is compared with is not known beforehand")


def _match(condition: tree.Match) -> Wants:
    role, name, matcher = condition.field.role, condition.field.name, condition.matcher
    if role in (fields.FILE_PATH, fields.FILE2_PATH):
        return _paths(name, matcher)
    if role in (fields.FILE_NAME, fields.FILE2_NAME):
        if matcher.patterns:
            return Refusal(f"{name} is compared with a pattern")
        if any(not value or _too_long(value) for value in matcher.exact):
            return Refusal(f"{name} is compared with nothing, or with a name of more than {MAX_NAME} bytes")
        return frozenset(Want(BASENAME, value) for value in matcher.exact)
    return _unknown(name)


def _paths(name: str, matcher: Matcher) -> Wants:
    if any(value in (b"", b"/") or _too_long(value) for value in matcher.exact):
        return Refusal(f"{name} is compared with / or nothing, or with a name of more than {MAX_NAME} bytes")
    found = {Want(PATH, value) for value in matcher.exact}
    for pattern in matcher.patterns:
        wanted = _pattern(pattern)
        if wanted is None:
            shown = pattern.text.decode("utf-8", "backslashreplace")
            return Refusal(f"{name} is compared with `{shown}`, which names neither directory nor file")
        found.add(wanted)
    return frozenset(found)


def _too_long(path: bytes) -> bool:
    """Whether a component is longer than file systems have them: the kernel refuses such names."""
    return any(len(component) > MAX_NAME for component in path.split(b"/"))


def _pattern(pattern: Pattern) -> Want | None:
    """The base name or the directory that a pattern's matches share; the cheaper one."""
    directory = pattern.prefix.rpartition(b"/")[0]
    usable = directory.startswith(b"/") and not _too_long(directory)
    candidates = [Want(PREFIX, directory)] if usable else []
    if pattern.last_component and not _too_long(pattern.last_component):
        candidates.append(Want(BASENAME, pattern.last_component))
    return min(candidates, key=_cost, default=None)


def _role(condition: tree.Compare | tree.Member) -> str:
    """The role of the only field of a comparison, "" when there are more or it has none."""
    found = tree.fields_of(condition)
    return next(iter(found)).role if len(found) == 1 else ""


def _number(condition: tree.Compare | tree.Member) -> Wants:
    role = _role(condition)
    names = ", ".join(sorted(field.name for field in tree.fields_of(condition)))
    if role == fields.FLAGS:
        return _flags(condition)
    if role in (fields.UID, fields.AUID):
        values = _equal_to(condition)
        if values is None:
            return Refusal(f"{names} is not compared with single values")
        return frozenset(Want(USER if role == fields.UID else LOGIN, value) for value in values)
    return _unknown(names) if names else Refusal("it asks nothing of the event")


def _equal_to(condition: tree.Compare | tree.Member) -> frozenset[int] | None:
    """The values that a bare field is compared with by `==` or `in`."""
    if not isinstance(condition.left, tree.IntField):
        return None
    if isinstance(condition, tree.Member):
        return frozenset(value for value in condition.values if 0 <= value <= WORD)
    if condition.operator == "==" and isinstance(condition.right, tree.IntConst):
        return frozenset({condition.right.value} if 0 <= condition.right.value <= WORD else ())
    return None


def _flags(condition: tree.Compare | tree.Member) -> Wants:
    values = _flag_values(condition)
    if values is None:
        return Refusal("open.flags is not compared with single flags")
    mask, found = _mask(condition), set()
    full = mask & ACCESS == ACCESS
    nonzero = [value for value in values if value]
    if len(nonzero) < len(values):  # none of the flags asked for may be set
        if not full:
            return Refusal("it asks for flags that are not set")
        found.add(Want(RDONLY, 1))
    if nonzero:
        found.add(Want(ANY_FLAG, _hitting(nonzero)))
    return frozenset(found)


def _hitting(values: list[int]) -> int:
    """A small mask that has a bit in common with each of these values.

    One bit if there is one, else all they use.
    """
    common, union = values[0], 0
    for value in values:
        common &= value
        union |= value
    return common & -common or union


def _flag_values(condition: tree.Compare | tree.Member) -> list[int] | None:
    """What the masked flags are worth when the condition holds; None when that cannot be told."""
    exact = _equal_to(condition)
    if exact is not None:
        return sorted(exact)
    mask = _mask(condition)
    if mask < 0 or mask.bit_count() > MAX_MASK_BITS:
        return None
    return [value for value in _subsets(mask) if _holds(condition, value)]


def _mask(condition: tree.Compare | tree.Member) -> int:
    """The flags that a condition looks at, -1 for all of them."""
    sides = (condition.left,) if isinstance(condition, tree.Member) else (condition.left, condition.right)
    masks = [_masked(side) for side in sides]
    if any(mask < 0 for mask in masks):
        return -1
    mask = 0
    for each in masks:
        mask |= each
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
