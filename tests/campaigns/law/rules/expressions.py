"""Rule expressions drawn at random from the grammar of docs/rules.md, with and without regard for types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.campaigns.law import naive_words
from tests.campaigns.law.rules import samples
from tests.campaigns.law.rules.samples import Pools

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
FLAGS = tuple(name for name in naive_words.OPEN_FLAGS if name != "O_LARGEFILE")
CONSTANTS = (*FLAGS, *naive_words.OTHERS, "S_ISUID", "S_IFMT", "S_IFREG", "EACCES", "ENOENT", "SIGKILL")
BLANKS = ("", " ", "  ", "\t", "\n", " # a\n", " // b\n")
TYPES = tuple(sorted(naive_words.event_types()))

# What the macros and variables of each policy are; a condition is written anew for each event type.
MACROS: Mapping[str, str | Sequence[str]] = {
    "WRITES": "O_WRONLY|O_RDWR",
    "MASK": "(WRITES) | O_CREAT",
    "USERS": "[0, 1000]",
    "NAMES": ["a", 'b"c', '~"*.conf"', "etc", 'r"^p"'],
    "MORE": '["passwd", ~"a*"]',
}
VARIABLES: Mapping[str, object] = {"num": 7, "word": "a", "nums": [1, 3], "texts": ["etc", "b"], "unset": ""}


@dataclass
class Writer:
    """Writes expressions on one event type; with `fim` on `fim.write.file`."""

    random: Random
    kind: str
    pools: Pools = field(default_factory=Pools)
    fim: bool = False
    only: Callable[[str], bool] = lambda _: True  # the fields to use
    fields: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.fields = {}
        for name, kind in naive_words.fields().items():
            first, shown = name.split(".")[0], name
            if name.endswith(".any_path"):  # depends on the files of this host
                continue
            if self.fim and re.fullmatch(r"unlink\.file\.\w+", name):
                first, shown = self.kind, f"fim.write.{name.split('.', 1)[1]}"
            elif self.fim and first == self.kind:
                continue
            if first in (self.kind, "process", "container", "cgroup", "event") and self.only(shown):
                self.fields.setdefault(kind, []).append(shown)

    def pick(self, *kinds: str) -> str:
        """Draw a field of one of the types; those of the event are as likely as those of all events."""
        names = [name for kind in kinds for name in self.fields.get(kind, ())]
        own = [name for name in names if name.startswith((f"{self.kind}.", "fim."))]
        return self.random.choice(own if own and self.random.random() < 0.6 else names)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def blank(self) -> str:
        return " " if self.chance(0.93) else self.random.choice(BLANKS[1:])

    def whole(self) -> str:
        """Write a condition that names the event type."""
        text = self.condition(self.random.choice((1, 1, 2, 2, 3, 4)))
        if not re.search(rf"\b({self.kind}|fim)\.", text):
            text = f"({text}) && ({self.comparison(own=True)})"
        return text

    def condition(self, depth: int) -> str:
        """Write a condition with at most `depth` levels."""
        if depth <= 0 or self.chance(0.15):
            return self.comparison()
        form = self.random.random()
        if form < 0.15:
            return self.random.choice(("!", "not ", "! ")) + self.operand(depth)
        if form < 0.2:
            sign = self.random.choice(("==", "!="))
            return f"({self.condition(depth - 1)}) {sign} ({self.condition(depth - 1)})"
        sign = self.random.choice(("&&", "and", "||", "or"))
        parts = [self.operand(depth) for _ in range(self.random.choice((2, 2, 2, 3)))]
        return f"{self.blank()}{sign}{self.blank()}".join(parts)

    def operand(self, depth: int) -> str:
        inner = self.condition(depth - 1)
        return inner if self.chance(0.15) else f"({inner})"

    def comparison(self, *, own: bool = False) -> str:
        """Write one comparison, or a condition without parts."""
        forms: list[tuple[float, Callable[[], str]]] = []
        if {"int", "list of ints"} & set(self.fields):
            forms += [(4, self.numbers), (1, self.in_numbers)]
        if {"string", "list of strings"} & set(self.fields):
            forms += [(4, self.texts), (2, self.in_texts), (0.4, self.two_texts)]
        if not own:
            forms.append((0.3, lambda: self.random.choice(("true", "false", "1 < 2", "O_RDWR == 3"))))
        if "bool" in self.fields:
            forms.append((0.8, self.truth))
        made = self.random.choices([form for _, form in forms], [weight for weight, _ in forms])[0]()
        return made if not own or re.search(rf"\b({self.kind}|fim)\.", made) else self.comparison(own=True)

    def truth(self) -> str:
        name = self.pick("bool")
        return self.random.choice(
            (name, f"{name} == true", f"{name} != true", f"false == {name}", f"!{name}")
        )

    def numbers(self) -> str:
        left, right = self.sum(self.pick("int", "list of ints")), self.sum(self.number())
        if self.chance(0.1):
            left, right = right, left
        return f"{left}{self.blank()}{self.random.choice(COMPARISONS)}{self.blank()}{right}"

    def sum(self, first: str) -> str:
        """Write a number out of the first one: often itself, else arithmetic with other numbers."""
        form = self.random.random()
        if form < 0.55:
            return first
        if form < 0.75:
            return f"{first} & {self.number()}"
        if form < 0.8:
            return f"{first} & ({self.number()} | {self.number()})"
        sign = self.random.choice("+-|^&")
        return self.random.choice(
            (
                f"{first} {sign} {self.number()}",
                f"({first} {sign} {self.number()})",
                f"{self.number()} {sign} {first}",
                f"^{first}",
                f"-{first}",
                f"{first} & ^{self.number()}",
                f"({first} {self.random.choice('+-|^&')} {self.number()}) {sign} {self.number()}",
                f"{first} {self.random.choice('+-|^&')} {self.number()} {sign} {self.number()}",
            )
        )

    def number(self) -> str:
        """Write a number: a literal, a constant, a macro, a variable or a field."""
        form = self.random.random()
        if form < 0.4:
            return self.literal(self.random.choice((*samples.NUMBERS, *samples.RETVALS, *samples.USERS)))
        if form < 0.6:
            return self.random.choice(CONSTANTS)
        if form < 0.7:
            return self.literal(self.random.choice((*samples.OPEN_FLAGS, *samples.MODES)))
        if form < 0.8:
            return self.random.choice(("WRITES", "(MASK)", "${num}", "10s", "1h30m", "5ns", "1us"))
        return (
            self.pick("int") if "int" in self.fields and self.chance(0.5) else str(self.random.randint(0, 9))
        )

    def literal(self, number: int) -> str:
        sign, number = ("-", -number) if number < 0 else ("", number)
        form = self.random.choice(("{}", "{}", "0x{:x}", "0X{:X}", "0o{:o}", "0{:o}"))
        return sign + form.format(number)

    def in_numbers(self) -> str:
        sign = self.random.choice(("in", "in", "not in"))
        items = [self.random.choice((self.literal(each), "EACCES", "O_RDWR")) for each in self.numerals()]
        right = self.random.choice(
            (f"[{', '.join(items)}]", "USERS", "${nums}", f"[{', '.join(items)}, USERS]")
        )
        left = self.pick("int", "list of ints")
        return f"{left if self.chance(0.8) else self.sum(left)} {sign} {right}"

    def numerals(self) -> list[int]:
        pool = (*samples.NUMBERS, *samples.RETVALS, *samples.USERS, *samples.OPEN_FLAGS)
        return [self.random.choice(pool) for _ in range(self.random.randint(0, 4))]

    def texts(self) -> str:
        name = self.pick("string", "list of strings")
        if self.chance(0.08) and not name.endswith(".length"):
            length = f"{name}.length"
            return f"{length} {self.random.choice(COMPARISONS)} {self.random.randint(0, 9)}"
        sign = self.random.choice(("==", "!=", "=~", "!~"))
        right = self.constant(name, pattern=sign in ("=~", "!~") or self.chance(0.4))
        if self.chance(0.05):
            return f"{right} == {name}"
        return f"{name}{self.blank()}{sign}{self.blank()}{right}"

    def in_texts(self) -> str:
        name = self.pick("string", "list of strings")
        items = [
            self.constant(name, pattern=self.chance(0.3), plain=False)
            for _ in range(self.random.randint(0, 4))
        ]
        lists = [f"[{', '.join(items)}]"] * 3
        if not is_path(name):
            lists += ["NAMES", "MORE", f"[{', '.join([*items, 'NAMES'])}]"]
        return (
            f"{name} {self.random.choice(('in', 'in', 'not in'))} {self.random.choice((*lists, '${texts}'))}"
        )

    def two_texts(self) -> str:
        left, right = self.pick("string", "list of strings"), self.pick("string")
        other = f"${{{right}}}"
        parts = [
            right,
            other,
            f'"{other}"',
            f'"/proc/{other}/x"',
            f'"{other}{other}"',
            "${word}",
            '"${word}"',
        ]
        return f"{left} {self.random.choice(('==', '!='))} {self.random.choice(parts)}"

    def constant(self, name: str, *, pattern: bool = False, plain: bool = True) -> str:
        """Write a text, or a pattern, that a field may be compared with."""
        text = self.text(name)
        if not pattern:
            return self.string(text)
        form = self.random.random()
        if form < 0.3:
            return regex(self.random, text)
        wild = wildcards(self.random, text, path=is_path(name))
        if form < 0.6 and plain:
            return self.string(wild)
        return '~"' + wild.replace('"', '\\"') + '"' if wild.isprintable() else self.string(text)

    def text(self, name: str) -> str:
        drawn = self.any_text(name)
        return drawn if "${" not in drawn or self.chance(0.02) else drawn.replace("$", "")

    def any_text(self, name: str) -> str:
        if is_path(name):
            pools = self.pools if self.chance(0.05) else Pools(self.pools.names, (), self.pools.depth)
            return pools.path(self.random)
        if ".arg" in name:
            return self.random.choice((*samples.ARGS, "l", "n", "ln", "version", "T=8", "width=8", "T"))
        if name.endswith(".extension"):
            return self.random.choice((".conf", ".c", ".a", "", "."))
        return self.random.choice(self.pools.names if ".file." in name else samples.TEXTS)

    def string(self, text: str) -> str:
        """Write a text in quotes, each of its bytes in one of the ways that the language has."""
        return '"' + "".join(self.character(char) for char in text) + '"'

    def character(self, char: str) -> str:
        point = ord(char)
        if 0xDC80 <= point <= 0xDCFF:
            return f"\\x{point - 0xDC00:02x}"
        if char in '"\\':
            return "\\" + char
        if char in "\n\t\r":
            return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
        if point < 0x80 and self.chance(0.05):
            return f"\\x{point:02x}"
        if not char.isprintable() or (point < 0x10000 and self.chance(0.05)):
            return f"\\u{point:04x}"
        return char

    def anything(self, depth: int = 4) -> str:
        """Write what the grammar allows, without regard for types."""
        if depth <= 0:
            return self.atom()
        inner = self.anything
        signs = (
            "&&",
            "||",
            "and",
            "or",
            *COMPARISONS,
            "=~",
            "!~",
            "in",
            "not in",
            "+",
            "-",
            "&",
            "|",
            "^",
            "allin",
        )
        form = self.random.random()
        if form < 0.55:
            return f"{inner(depth - 1)} {self.random.choice(signs)} {inner(depth - 1)}"
        if form < 0.75:
            return f"({inner(depth - 1)})"
        if form < 0.85:
            return f"{self.random.choice('!-^')}{inner(depth - 1)}"
        if form < 0.95:
            return f"[{', '.join(inner(depth - 2) for _ in range(self.random.randint(0, 3)))}]"
        return f"not {inner(depth - 1)}"

    def atom(self) -> str:
        return self.random.choice(
            (
                lambda: self.pick(*self.fields),
                lambda: self.constant(self.pick(*self.fields)),
                lambda: self.constant(self.pick(*self.fields), pattern=True),
                self.number,
                lambda: self.random.choice(
                    ("true", "false", "10.0.0.1", "1.2.3.4/8", "${x.y}", "${word}", "NAMES")
                ),
                lambda: self.random.choice(
                    ("process.ancestors[0].pid", "open.file.nope", "a", "dns.question.name")
                ),
            )
        )()

    def broken(self) -> str:
        """Write an expression in which characters or tokens are missing, doubled, moved or new."""
        text = self.whole() if self.chance(0.7) else self.anything()
        parts = (
            re.findall(r'"(?:[^"\\]|\\.)*"|\w+|\s+|.', text, re.DOTALL) if self.chance(0.6) else list(text)
        )
        for _ in range(self.random.randint(1, 4)):
            at, to = self.random.randrange(len(parts) + 1), self.random.randrange(len(parts) + 1)
            form = self.random.random()
            if form < 0.3:
                del parts[at : at + self.random.randint(1, 3)]
            elif form < 0.6:
                parts[to:to] = parts[at : at + self.random.randint(1, 3)]
            else:
                parts.insert(
                    at, self.random.choice(('"', "\\", "(", ")", "[", "]", ",", "~", "r", "$", "{", "}", "'"))
                )
            parts = parts or ["("]
        return "".join(parts)


def is_path(name: str) -> bool:
    """Whether a field is a path: only constants that a file can have are compared with it."""
    return name.endswith(".path") and name != "mount.source.path"


def wildcards(random: Random, text: str, *, path: bool) -> str:
    """Replace parts of a text by wildcards."""
    if not path:
        at, to = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
        return f"{text[:at]}{random.choice(('*', '**'))}{text[to:]}{random.choice(('', '', '*'))}"
    parts = text.split("/")[1:] or [""]
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(parts))
        part = parts[at]
        cut = random.randint(0, len(part))
        parts[at] = random.choice(
            ("*", "**", "**", f"{part[:cut]}*", f"*{part[cut:]}", f"{part[:cut]}**", f"**{part}")
        )
    made = "/" + "/".join(parts)
    return made[1:] if made.startswith("/*") and random.random() < 0.3 else made


def regex(random: Random, text: str) -> str:
    """Write a regular expression that often matches a text."""
    parts = []
    for char in text:
        if not char.isprintable() or char == '"' or random.random() < 0.1:
            parts.append(random.choice((".", "[^/]", "(.|\\n)", "\\w*", "[a-z]")))
        elif char.isalnum() or char in "/_":
            parts.append(
                random.choice((char, char, char, f"{char}+", f"({char}|b)", f"(?:{char}){{1,2}}", f"{char}?"))
            )
        else:
            parts.append(f"\\{char}" if ord(char) < 128 else char)
    if random.random() < 0.3 and len(parts) > 1:
        parts[random.randrange(len(parts))] = random.choice(
            (".*", "|", "\\d*", "[^a]+", "$", "\\s", "[a-c/]?", "x{0,2}")
        )
    start, end = random.choice(("", "^", "(?i)", "(?i)^")), random.choice(("", "$"))
    return f'r"{start}{"".join(parts)}{end}"'
