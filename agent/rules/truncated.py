"""Changes conditions to those of events with a truncated path, of which only the end is known.

A process can work below so many directories that the kernel reports the end of each path alone. Such a path
is no reason to miss a match, so a comparison holds if it holds for one of the whole paths with that end, and
its negation if that holds for one of them. Each comparison is judged by itself.
"""

from __future__ import annotations

from agent.events.model import Event, FileFlags
from agent.rules import fields, tree


def is_truncated(event: Event) -> bool:
    """Whether only the end of a path of the event is known."""
    if event.file2 is None and event.file.path.startswith(b"/"):  # nearly always; to test a flag is slow
        return False
    return any(
        file.flags & FileFlags.TRUNCATED and not file.path.startswith(b"/")
        for file in (event.file, event.file2)
        if file is not None
    )


def may_hold(condition: tree.Condition) -> tree.Condition:
    """Return a condition that holds if the given one may hold for the whole paths of an event."""
    return _may_hold(tree.push(condition))


def _may_hold(condition: tree.Condition) -> tree.Condition:
    if isinstance(condition, tree.All):
        return tree.All(tuple(map(_may_hold, condition.items)))
    if isinstance(condition, tree.Any):
        return tree.Any(tuple(map(_may_hold, condition.items)))
    wanted = not isinstance(condition, tree.Not)
    leaf = condition.item if isinstance(condition, tree.Not) else condition
    marks = {mark for field in tree.fields_of(leaf) if (mark := fields.truncated(field))}
    if not marks:
        return condition
    cut = tree.Any(tuple(map(tree.Flag, marks)))
    if not isinstance(leaf, tree.Match):  # with a text or number that only the event determines
        return tree.Any((cut, condition))
    ends = tree.Ends(leaf.field, leaf.matcher, wanted)
    return tree.Any((tree.All((cut, ends)), tree.All((tree.negate(cut), condition))))
