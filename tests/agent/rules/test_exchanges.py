"""An exchange is two renames: a rule matches if it holds for the two files in either order."""

from __future__ import annotations

from contextlib import suppress

import pytest

from agent.errors import RuleErrors
from agent.events.model import Event, EventType, File, FileFlags
from agent.filters import approvers, discarders, model, proofs
from agent.rules import tree
from agent.rules.builder import ParseError
from agent.rules.check import check
from agent.rules.parser import MAX_DEPTH, parse
from tests.agent.rules.samples import holds, ruleset

DIRECTORY, REGULAR = 0o40755, 0o100644
EXCHANGE = 2
KEPT = File(b"/srv/keep/f", inode=5, mode=REGULAR, uid=0, nlink=1, identities=(5, 4, 3, 2))
OTHER = File(b"/tmp/x", inode=7, mode=REGULAR, uid=1000, nlink=1, flags=FileFlags.UPPER)


def renamed(first: File, second: File, flags: int = EXCHANGE) -> Event:
    """A rename with these flags, by default an exchange."""
    return Event(EventType.RENAME, flags=flags, file=first, file2=second)


@pytest.mark.parametrize("slot", ["file", "file.destination"])
@pytest.mark.parametrize(
    "condition",
    [
        '.path == "/srv/keep/f"',
        '.path in ["/a", ~"/srv/**"]',
        '.name == "f"',
        ".name.length == 1 && rename.file.path.length + rename.file.destination.path.length == 17",
        '.any_path == "/srv/keep/f"',
        ".inode == 5",
        '.path == "/srv/keep/f" && rename.retval == 0',
        '.path =~ "/srv/**" && rename.flags & RENAME_EXCHANGE > 0',
        ".uid == 0 && process.uid == 0",
        '.path == "/srv/keep/${rename.file.inode}" || rename.file.destination.uid == rename.file.inode + 995',
    ],
)
def test_either_order(slot: str, condition: str) -> None:
    """A rule on one file matches the exchange that names it first, and the one that names it second."""
    for first, second in ((KEPT, OTHER), (OTHER, KEPT)):
        assert holds(f"rename.{slot}{condition}", renamed(first, second))


@pytest.mark.parametrize("slot", ["file", "file.destination"])
@pytest.mark.parametrize(("mode", "expected"), [(DIRECTORY, True), (REGULAR, False)])
def test_a_directory_above(slot: str, mode: int, expected: bool) -> None:
    """A rule matches the exchange of a directory above its path in either order, and of no plain file."""
    above = File(b"/srv/keep", mode=mode)
    for first, second in ((above, OTHER), (OTHER, above)):
        event = renamed(first, second)
        assert holds(f'rename.{slot}.path == "/srv/keep/f"', event) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('rename.file.path == "/srv/keep/f" && rename.file.destination.path == "/tmp/x"', True),
        ('rename.file.path == "/tmp/x" && rename.file.destination.path == "/srv/keep/f"', True),
        ('rename.file.path == "/tmp/x" && rename.file.uid == 1000', True),
        ('rename.file.path == "/tmp/x" && rename.file.uid == 0', False),
        ('rename.file.path == "/tmp/x" && rename.file.destination.inode == 7', False),
        ('rename.file.destination.path == "/srv/keep/f" && rename.file.in_upper_layer', True),
        ('rename.file.destination.path == "/srv/keep/f" && !rename.file.in_upper_layer', False),
        ('rename.file.path =~ "/srv/**" && rename.file.destination.path =~ "/srv/**"', False),
        ("rename.file.inode < rename.file.destination.inode", True),
        ("rename.file.inode > rename.file.destination.inode", True),
        ('rename.file.name == "${rename.file.destination.name}"', False),
        ('rename.file.path != "/srv/keep/f"', True),
        ('rename.file.destination.path !~ "/srv/**"', True),
        ('!(rename.file.path == "/srv/keep/f")', True),
        ('rename.file.path == "/srv/keep/f" && rename.file.destination.path !~ "/srv/**"', True),
        ('rename.file.path == "/tmp/x" && rename.file.destination.path !~ "/srv/**"', False),
        ('rename.file.path not in ["/srv/keep/f", "/tmp/x"]', False),
    ],
)
def test_the_whole_expression_holds_in_one_order(expression: str, expected: bool) -> None:
    """All fields of both files change places together, also below a negation."""
    for first, second in ((KEPT, OTHER), (OTHER, KEPT)):
        assert holds(expression, renamed(first, second)) is expected


@pytest.mark.parametrize("flags", [0, 1, 4])
def test_a_plain_rename_has_one_order(flags: int) -> None:
    """Only RENAME_EXCHANGE gives the second file another name."""
    assert not holds('rename.file.path == "/srv/keep/f"', renamed(OTHER, KEPT, flags))
    assert not holds('rename.file.destination.path == "/srv/keep/f"', renamed(KEPT, OTHER, flags))


def test_a_refused_exchange() -> None:
    """With another flag the kernel refuses it: the attempt matches in either order as well."""
    event = renamed(OTHER, KEPT, EXCHANGE | 1)
    event.retval = -22
    assert holds('rename.file.path == "/srv/keep/f" && rename.retval < 0', event)


def test_a_truncated_path() -> None:
    """Of either file it matches what its whole path may match."""
    cut = File(b"d/f", mode=REGULAR, flags=FileFlags.TRUNCATED)
    for first, second in ((cut, OTHER), (OTHER, cut)):
        event = renamed(first, second)
        assert holds('rename.file.path == "/srv/d/f"', event)
        assert not holds('rename.file.path == "/srv/d/g"', event)


@pytest.mark.parametrize(
    ("expression", "kind", "size"),
    [
        ("rename.retval == 0 && process.uid == 0", EventType.RENAME, 2),
        ("rename.flags & RENAME_EXCHANGE > 0", EventType.RENAME, 1),
        ('fim.write.file.name == "f"', EventType.RENAME, 2),
        ('fim.write.file.name == "f" && fim.write.file.uid != 0', EventType.RENAME, 4),
        ('link.file.name == "f"', EventType.LINK, 1),
    ],
)
def test_what_is_the_same_in_both_orders_stays_as_it_is(expression: str, kind: EventType, size: int) -> None:
    """Nothing is added to a rule that reads no file, that takes both files already, or that is on links."""
    (rule,) = ruleset(expression).by_type[kind]
    assert tree.size(rule.condition) == size


@pytest.mark.parametrize(
    "condition",
    [
        'path == "/srv/keep/f"',
        'path =~ "/srv/keep/*"',
        "inode == 5",
        'name == "f"',
        'any_path == "/srv/keep/f"',
    ],
)
def test_the_kernel_forwards_the_same_names(condition: str) -> None:
    """A rule on one file has the approvers of a rule on the other, and they pass both orders."""
    first, second = (
        approvers.derive(ruleset(f"rename.{slot}.{condition}"))[EventType.RENAME]
        for slot in ("file", "file.destination")
    )
    assert first.mode is approvers.Mode.APPROVE
    assert first.paths <= {b"/srv/keep/f", b"/srv/keep", b"/srv"}
    for of in ("paths", "basenames", "prefixes", "inodes"):
        assert getattr(first, of) == getattr(second, of)
    for event in (renamed(KEPT, OTHER), renamed(OTHER, KEPT)):
        assert model.approves(first, event)


def test_no_proof_leaves_out_the_other_order() -> None:
    """Where both files are bound, a directory of neither can be discarded, and that of any other file can."""
    rules = ruleset('rename.file.path =~ "/srv/keep/*" && rename.file.destination.path =~ "/tmp/*"')
    forms = proofs.forms({EventType.RENAME: rules.by_type[EventType.RENAME]}, {EventType.RENAME: ("file",)})
    for directory, expected in ((b"/srv/keep", False), (b"/tmp", False), (b"/usr", True)):
        known = discarders.Known("file", directory, 1)
        assert all(discarders.impossible(form, known) for form, _ in forms) is expected


def test_the_second_order_counts_as_work() -> None:
    """The bound on the work of all rules holds for both orders."""
    once, twice = (
        check(parse(f'{kind}.file.name == "f" && {kind}.retval == 0'), {}, {}).work
        for kind in ("link", "rename")
    )
    assert twice == 2 * once


def test_an_error_names_the_field_that_the_rule_has() -> None:
    """Not that of the other file."""
    with pytest.raises(RuleErrors) as caught:
        ruleset('rename.file.any_path == "${rename.file.name}"')
    assert "`rename.file.any_path`" in str(caught.value.problems)


def test_the_deepest_expression_can_be_evaluated() -> None:
    """Both orders of an expression of the greatest depth, below a change of a directory above, compile."""
    nested = 'rename.file.name == "f"'
    while parses(
        longer := f'({nested} {"&&" if nested.count("(") % 2 else "||"} rename.file.path =~ "/srv/**")'
    ):
        nested = longer
    assert nested.count("(") > MAX_DEPTH // 4
    assert holds(nested, renamed(OTHER, KEPT))


def parses(expression: str) -> bool:
    """Whether the parser takes an expression."""
    with suppress(ParseError):
        return bool(parse(expression))
    return False
