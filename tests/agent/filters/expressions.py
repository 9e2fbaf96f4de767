"""Random rules over the names of the small world."""

from __future__ import annotations

from hypothesis import strategies as st

KINDS = (
    "open",
    "open",
    "open",
    "chmod",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "exec",
    "close",
    "truncate",
    "fim.write",
)
PATHS = (
    "/a",
    "/a/b",
    "/a/passwd",
    "/b/passwd",
    "/b/c/x.conf",
    "/m/a",
    "/m/passwd",
    "/c/x.conf",
    "/a/b/c/passwd",
    "/",
    "",
)
GLOBS = (
    "/a/*", "/a/**", "/b/c/**", "/*/passwd", "/**/passwd", "**/x.conf", "/a/*/c", "/a/b*", "/m/**",
    "*", "**", "/b/*.conf", "*/a/*", "/a/**/c", "/**/a/**", "/b/*/*", "/a/b/c/d/**",
)  # fmt: skip
REGEXES = ("^/a/", "passwd$", "^/b/c/x", "conf", "^/(a|b)/", "^/a", "/c/", "")
NAMES = ("passwd", "x.conf", "a", "b", "zzz", "")
MASKS = (
    "O_WRONLY|O_RDWR",
    "O_ACCMODE",
    "O_CREAT",
    "O_CREAT|O_TRUNC|O_APPEND|O_RDWR|O_WRONLY",
    "O_WRONLY",
    "0",
    "O_CREAT|O_RDWR",
)


def quoted(values: tuple[str, ...], prefix: str = "") -> st.SearchStrategy[str]:
    return st.sampled_from([f'{prefix}"{value}"' for value in values])


def listed(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(item, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")


paths = st.one_of(quoted(PATHS), quoted(GLOBS, "~"), quoted(REGEXES, "r"))
names = st.one_of(quoted(NAMES), quoted(("pass*", "*.conf", "a*b", "*"), "~"), quoted(("^p", "conf$"), "r"))


def compared(field: str, constants: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.builds(
        lambda op, value: f"{field} {op} {value}", st.sampled_from(["==", "=~", "!=", "!~"]), constants
    )
    many = st.builds(
        lambda op, values: f"{field} {op} {values}",
        st.sampled_from(["in", "in", "not in"]),
        listed(constants),
    )
    return st.one_of(one, many)


def flags() -> st.SearchStrategy[str]:
    masked = st.builds(
        lambda mask, op, value: f"open.flags & ({mask}) {op} {value}",
        st.sampled_from(MASKS),
        st.sampled_from([">", "!=", "==", "<", ">="]),
        st.sampled_from(["0", "1", "O_CREAT", "O_RDONLY", "3"]),
    )
    raw = st.sampled_from(
        [
            "open.flags == O_RDONLY",
            "open.flags in [O_WRONLY, O_RDWR]",
            "open.flags != 0",
            "open.flags == 0o101",
            "open.flags > 5",
        ]
    )
    return st.one_of(masked, masked, raw)


COMMON = (
    "process.uid == 0", "process.uid != 0", "process.uid in [33, 1000]", "process.uid > 100",
    "process.auid == 1000", "process.auid != AUDIT_AUID_UNSET",
    'process.comm == "sh"', 'process.comm not in ["sh"]', 'process.file.path == "/usr/bin/dpkg"',
    'container.id != ""', 'process.ancestors.file.name == "x"', "process.ancestors.uid != 0", "true", "false",
)  # fmt: skip


def leaves(kind: str) -> st.SearchStrategy[str]:
    file = f"{kind}.file"
    own = [
        compared(f"{file}.path", paths),
        compared(f"{file}.path", paths),
        compared(f"{file}.name", names),
        st.sampled_from([f"{file}.in_upper_layer", f"{file}.mode & S_IFDIR > 0", f"{file}.uid == 0"]),
        st.sampled_from(COMMON),
    ]
    if kind == "open":
        own += [flags(), flags()]
    if kind in ("rename", "link"):
        own += [compared(f"{file}.destination.path", paths), compared(f"{file}.destination.name", names)]
    if kind != "fim.write":
        own.append(st.sampled_from([f"{kind}.retval >= 0", f"{kind}.retval == EACCES"]))
    return st.one_of(own)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda a, b: f"({a}) && ({b})", inner, inner),
        st.builds(lambda a, b: f"({a}) && ({b})", inner, inner),
        st.builds(lambda a, b: f"({a}) || ({b})", inner, inner),
        inner.map(lambda a: f"!({a})"),
    )


def of_kind(kind: str) -> st.SearchStrategy[str]:
    """Return an expression on one event type; its first part names the type."""
    inner = st.recursive(leaves(kind), combined, max_leaves=4)
    return st.builds(
        lambda a, b: f"({a}) && ({b})", compared(f"{kind}.file.path", paths), inner
    ) | inner.filter(lambda text: f"{kind}." in text)


def rejoined(kind: str) -> st.SearchStrategy[list[str]]:
    """Return two expressions that join the same parts, one by `&&` and one by `||`."""
    path = compared(f"{kind}.file.path", paths)
    return st.tuples(leaves(kind), path, path).map(
        lambda parts: [f"({parts[0]}) && (({parts[1]}) {join} ({parts[2]}))" for join in ("&&", "||")]
    )


expressions = st.one_of([of_kind(kind) for kind in KINDS])
rules = st.lists(expressions, min_size=1, max_size=5) | st.one_of([rejoined(kind) for kind in KINDS])
