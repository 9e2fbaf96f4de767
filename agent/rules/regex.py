r"""Parses regular expressions and globs to trees over symbols.

The symbols are the bytes, and START and END for the ends of the text.

The syntax of regular expressions is the common part of RE2 and Python, without features that automata cannot
implement (back references, look-around) and without `\b`. In a glob `*` matches any bytes except `/`, `**`
any bytes, and `/**/` also a single `/`.
"""

from __future__ import annotations

from typing import NamedTuple

START, END = 256, 257
BYTES = (1 << 256) - 1
MAX_PATTERN = 1_024  # bytes of one pattern
MAX_POSITIONS = 2_048  # symbols of one pattern, repeats expanded
MAX_GROUPS = 32  # levels of parentheses


class PatternError(ValueError):
    """An invalid pattern; `at` is the offset of the fault in the pattern."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.at = at


class Symbols(NamedTuple):
    """One symbol out of a set, as a bit mask."""

    mask: int


class Cat(NamedTuple):
    """A sequence; without items it matches the empty text."""

    items: tuple[Tree, ...]


class Alt(NamedTuple):
    """Alternatives: one of the items."""

    items: tuple[Tree, ...]


class Star(NamedTuple):
    """The item, zero or more times."""

    item: Tree


Tree = Symbols | Cat | Alt | Star
EMPTY = Cat(())


def symbol(value: int) -> Symbols:
    """Match exactly this symbol."""
    return Symbols(1 << value)


def text(value: bytes) -> Tree:
    """Match exactly these bytes."""
    return Cat(tuple(symbol(byte) for byte in value))


SLASH = symbol(0x2F)
WITHIN = Star(Symbols(BYTES & ~(1 << 0x2F)))
ACROSS = Star(Symbols(BYTES))
ANYTHING = Star(Symbols(BYTES | 1 << START | 1 << END))


def glob(pattern: bytes, *, path: bool) -> Tree:
    """Parse a glob that covers a whole text; without `path` a `*` matches `/` too. Raises PatternError."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"the pattern has {len(pattern)} bytes, the limit is {MAX_PATTERN}")
    items: list[Tree] = [symbol(START)]
    rest = pattern
    while rest:
        item, length = _glob_item(rest, path=path)
        items.append(item)
        rest = rest[length:]
    return Cat((*items, symbol(END)))


def _glob_item(rest: bytes, *, path: bool) -> tuple[Tree, int]:
    if path and rest.startswith(b"/**/"):
        return Cat((SLASH, Alt((EMPTY, Cat((ACROSS, SLASH)))))), 4
    if rest.startswith(b"*"):
        stars = len(rest) - len(rest.lstrip(b"*"))
        return (ACROSS if stars > 1 or not path else WITHIN), stars
    return symbol(rest[0]), 1


def search(pattern: bytes) -> Tree:
    """Parse a regular expression that matches anywhere in a text. Raises PatternError."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"the pattern has {len(pattern)} bytes, the limit is {MAX_PATTERN}")
    return Cat((ANYTHING, _Reader(pattern).read(), ANYTHING))


def size(tree: Tree) -> int:
    """Return the number of symbols of a tree; an empty part counts as one, because it costs as much."""
    if isinstance(tree, Symbols):
        return 1
    if isinstance(tree, Star):
        return size(tree.item)
    return max(1, sum(size(item) for item in tree.items))


def _span(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


_DIGIT = _span(0x30, 0x39)
_WORD = _DIGIT | _span(0x41, 0x5A) | _span(0x61, 0x7A) | 1 << 0x5F
_SPACE = _span(0x09, 0x0D) | 1 << 0x20
_CLASSES = {
    ord("d"): _DIGIT,
    ord("D"): BYTES & ~_DIGIT,
    ord("w"): _WORD,
    ord("W"): BYTES & ~_WORD,
    ord("s"): _SPACE,
    ord("S"): BYTES & ~_SPACE,
}
_NAMED = {
    b"alnum": _WORD & ~(1 << 0x5F),
    b"alpha": _WORD & ~_DIGIT & ~(1 << 0x5F),
    b"digit": _DIGIT,
    b"space": _SPACE,
}
_CONTROLS = {ord("n"): 10, ord("t"): 9, ord("r"): 13, ord("f"): 12, ord("v"): 11, ord("a"): 7}
_ANCHORS = {ord("A"): START, ord("z"): END, ord("Z"): END}
_LETTERS = _span(0x41, 0x5A)
_HEX = frozenset(b"0123456789abcdefABCDEF")


class _Reader:
    """Reads one regular expression by recursive descent; `MAX_GROUPS` bounds the recursion."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.fold = False

    def read(self) -> Tree:
        if self.pattern.startswith(b"(?i)"):
            self.fold = True
            self.at = 4
        tree = self._alternatives()
        if self.at < len(self.pattern):
            raise PatternError("unmatched )", self.at)
        return tree

    def _peek(self) -> int:
        return self.pattern[self.at] if self.at < len(self.pattern) else -1

    def _take(self) -> int:
        if self.at >= len(self.pattern):
            raise PatternError("unexpected end of the pattern", self.at - 1)
        self.at += 1
        return self.pattern[self.at - 1]

    def _alternatives(self) -> Tree:
        items = [self._sequence()]
        while self._peek() == ord("|"):
            self.at += 1
            items.append(self._sequence())
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def _sequence(self) -> Tree:
        items: list[Tree] = []
        while self._peek() not in (-1, ord("|"), ord(")")):
            items.append(self._repeated())
        return Cat(tuple(items))

    def _repeated(self) -> Tree:
        start = self.at
        tree = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return tree
        if self._peek() == ord("?"):  # lazy repeats match the same texts
            self.at += 1
        second = self.at
        if self._bounds() is not None:  # RE2 and Python refuse it, or read it in different ways
            raise PatternError("a repeat of a repeat needs parentheses", second)
        return _repeat(tree, *bounds, at=start)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {ord("*"): (0, None), ord("+"): (1, None), ord("?"): (0, 1)}.get(self._peek())
        if simple is not None:
            self.at += 1
            return simple
        if self._peek() != ord("{"):
            return None
        body, closed, _ = self.pattern[self.at + 1 :].partition(b"}")
        least, comma, most = body.partition(b",")
        if closed and not least and comma and most.isdigit():
            raise PatternError("RE2 and Python read {,n} in different ways; write {0,n}", self.at)
        if not closed or not least.isdigit() or (most and not most.isdigit()):
            return None  # not a repeat: a literal brace
        self.at += len(body) + 2
        return int(least), (int(most) if most else None if comma else int(least))

    def _atom(self) -> Tree:
        at = self.at
        byte = self._take()
        if byte in b"*+?":
            raise PatternError("nothing to repeat", at)
        if byte == ord("("):
            return self._group(at)
        if byte == ord("["):
            return Symbols(self._class(at))
        if byte == ord("\\"):
            return self._escape(at)
        if byte in b"^$":
            return symbol(START if byte == ord("^") else END)
        if byte == ord("."):
            return Symbols(BYTES & ~(1 << 10))
        return Symbols(self._folded(1 << byte))

    def _group(self, at: int) -> Tree:
        self.depth += 1
        if self.depth > MAX_GROUPS:
            raise PatternError(f"more than {MAX_GROUPS} levels of parentheses", at)
        self._group_kind(at)
        tree = self._alternatives()
        if self._peek() != ord(")"):
            raise PatternError("unmatched (", at)
        self.at += 1
        self.depth -= 1
        return tree

    def _group_kind(self, at: int) -> None:
        if self._peek() != ord("?"):
            return
        rest = self.pattern[self.at :]
        if rest.startswith(b"?:"):
            self.at += 2
        elif rest.startswith((b"?P<", b"?<")) and not rest.startswith((b"?<=", b"?<!")) and b">" in rest:
            self.at += rest.index(b">") + 1
        else:
            raise PatternError("only (?:...), (?P<name>...) and a leading (?i) are supported", at)

    def _escape(self, at: int) -> Tree:
        byte = self._take()
        if byte in _ANCHORS:
            return symbol(_ANCHORS[byte])
        self.at -= 1
        return Symbols(self._folded(self._escaped(at)))

    def _escaped(self, at: int) -> int:
        """Return the symbols of the escape after a backslash."""
        byte = self._take()
        if byte in _CLASSES:
            return _CLASSES[byte]
        if byte == ord("x"):
            digits = self.pattern[self.at : self.at + 2]
            self.at += 2
            if len(digits) < 2 or set(digits) - _HEX:
                raise PatternError("\\x needs two hexadecimal digits", at)
            return 1 << int(digits, 16)
        if byte in _CONTROLS:
            return 1 << _CONTROLS[byte]
        if chr(byte).isascii() and chr(byte).isalnum():
            raise PatternError(f"\\{chr(byte)} is not supported", at)
        return 1 << byte

    def _class(self, at: int) -> int:
        negated = self._peek() == ord("^")
        self.at += negated
        mask = 0
        first = True
        while first or self._peek() != ord("]"):
            first = False
            if self._peek() == -1:
                raise PatternError("unmatched [", at)
            mask |= self._class_item(at)
        self.at += 1
        mask = self._folded(mask)  # before the negation: `(?i)[^a]` matches no A
        return BYTES & ~mask if negated else mask

    def _class_item(self, at: int) -> int:
        rest = self.pattern[self.at :]
        name, closed, _ = rest[2:].partition(b":]")
        if rest.startswith(b"[:") and closed and name in _NAMED:
            self.at += len(name) + 4
            return _NAMED[name]
        first = self._class_byte(at)
        if not (self._peek() == ord("-") and self.pattern[self.at + 1 : self.at + 2] not in (b"]", b"")):
            return first
        self.at += 1
        last = self._class_byte(at)
        if first.bit_count() != 1 or last.bit_count() != 1 or last < first:
            raise PatternError("the end of a range must not be before its start", at)
        return _span(first.bit_length() - 1, last.bit_length() - 1)

    def _class_byte(self, at: int) -> int:
        start = self.at
        byte = self._take()
        if byte == ord("\\"):
            return self._escaped(start)
        if byte >= 0x80:
            raise PatternError("a set can contain ASCII only; write other characters as (a|b)", at)
        return 1 << byte

    def _folded(self, mask: int) -> int:
        if not self.fold:
            return mask
        return mask | (mask & _LETTERS) << 32 | (mask & _LETTERS << 32) >> 32


def _repeat(tree: Tree, least: int, most: int | None, *, at: int) -> Tree:
    copies = max(least, most or 0, 1)
    if size(tree) * copies > MAX_POSITIONS:
        raise PatternError(f"the expanded repeat has more than {MAX_POSITIONS} symbols", at)
    if most is None:
        return Cat((*(tree,) * least, Star(tree)))
    if most < least:
        raise PatternError("the maximum of a repeat is less than its minimum", at)
    return Cat((*(tree,) * least, *(Alt((EMPTY, tree)),) * (most - least)))
