"""The models of matrix.yaml: the axes, and the entries that add cells to their product or remove cells.

An unknown key is an error with file, line and the nearest known key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from harness.errors import ConfigError
from harness.plan import quantities, yaml
from harness.text import did_you_mean, one_line

_NAMES = 12  # that an error lists at most
_MAX_LINE = 400  # characters of an error, which may quote a value

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
NameOrNone = Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[ -~]+$")]
File = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
# Without a user or password, which would be recorded in the results.
Url = Annotated[
    str, Field(max_length=512, pattern=r"^$|^https?://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~%/?&=+$,:-]*)?$")
]
SuiteName = Annotated[
    str, Field(max_length=128, pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$")
]
PackageGlob = Annotated[str, Field(max_length=128, pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9.+_*?-]*$")]
Arch = Literal["amd64", "arm64"]
Hookset = Literal["auto", "lsm", "fentry", "kprobe", "kprobe-multi", "tracepoint", "bcc"]
Btf = Literal["kernel", "external", "none"]
Transport = Literal["ringbuf", "perf"]
World = Literal["", "btrfs", "xfs", "vfat", "overlay", "user_namespace", "neighbour"]
Root = Literal["", "debian-12", "debian-13"]


def _listed(value: Any) -> Any:
    """A single word means a list of one word."""
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    """`6.1` alone means a kernel with that name and that series."""
    return {"name": value, "series": value} if isinstance(value, str) else value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"duplicate value {value!r}")
    return values


_SOME = (BeforeValidator(_listed), Field(min_length=1))  # an empty list could mean nothing or everything
_AXIS = (*_SOME, AfterValidator(_distinct))


def _parsed(parse: Callable[[str], float]) -> Callable[[Any], Any]:
    """A validator that parses text; a number, which comes from a plan in JSON, stays as it is."""
    return lambda value: parse(value) if isinstance(value, str) else value


Globs = Annotated[tuple[Text, ...], *_SOME]

M = TypeVar("M", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


# Where a kernel may come from: the key that names a source, and the keys that may stand beside it.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "series": ("flavour",),
    "image": ("modules", "config", "vmlinux"),
    "build": (),
    "packages": (),
    "apt": ("suite", "component", "key", "package"),
    "rpm": ("mirrorlist", "releasever", "key", "package"),
    "fragment": ("linux",),
}
# The keys without which a source is incomplete.
REQUIRED: Mapping[str, tuple[str, ...]] = {"apt": ("suite", "key", "package"), "rpm": ("key",)}
# The keys that are paths, relative to the folder of the matrix.
PATHS = ("image", "modules", "config", "vmlinux", "build", "packages", "fragment", "key")


class Kernel(_Model):
    """A kernel from exactly one source; `SOURCES` lists them with the keys that belong to each.

    `tests` are globs as for `--test`, for its cells in the product of the axes, unless the user names tests;
    () is all. `why` is the purpose of these cells, which `harness plan` prints. The exact release is resolved
    and recorded when it is fetched. `vcpus` is the number of processors of its guests; races between
    processors need at least two.
    """

    name: Name
    series: NameOrNone = ""  # of Debian's kernels
    flavour: Name = "cloud"
    image: File = ""  # vmlinuz or bzImage
    modules: File = ""  # folder or tar archive with the modules of `image`
    config: File = ""  # of `image`, if it is not in the image
    vmlinux: File = ""  # the file from which `image` was made, if the image has no BTF
    build: File = ""  # kernel tree after `make`, or what `modules_install` and `tar-pkg` install
    packages: Annotated[tuple[File, ...], BeforeValidator(_listed)] = ()  # .deb or .rpm, or their folder
    apt: Url = ""  # of an apt archive: the folder that has `dists`
    suite: SuiteName = ""  # of `apt`
    component: Name = "main"  # of `apt`
    rpm: Url = ""  # of an rpm repository: the folder that has `repodata`; $releasever, $basearch
    mirrorlist: bool = False  # `rpm` is a list of such addresses
    releasever: NameOrNone = ""  # for `rpm`
    # Names of images/configs/, or files: a kernel is built here with them.
    fragment: Annotated[tuple[File, ...], BeforeValidator(_listed)] = ()
    linux: NameOrNone = "6.12"  # of Debian's linux-source packages, for `fragment`
    key: File = ""  # the OpenPGP public keys that sign the archive
    package: PackageGlob = ""  # its name, or a glob of which the newest is taken; `kernel` of `rpm`
    vcpus: Annotated[int, BeforeValidator(_parsed(quantities.count)), Field(le=quantities.MAX_PROCESSORS)] = 1
    tests: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    tags: tuple[Name, ...] = ()
    why: Text | Literal[""] = ""

    @model_validator(mode="after")
    def _of_one_source(self) -> Kernel:
        given = [key for key in SOURCES if getattr(self, key)]
        if len(given) != 1:
            but = f"not {' and '.join(given)}" if given else "none is given"
            raise ValueError(f"a kernel needs one of {', '.join(SOURCES)}; {but}")
        others = {key for keys in SOURCES.values() for key in keys} - set(SOURCES[given[0]])
        fields = type(self).model_fields
        if wrong := sorted(key for key in others if getattr(self, key) != fields[key].default):
            raise ValueError(f"{wrong[0]} does not belong to a kernel with {given[0]}")
        if lacking := [key for key in REQUIRED.get(given[0], ()) if not getattr(self, key)]:
            raise ValueError(f"a kernel with {given[0]} needs {' and '.join(lacking)}")
        return self

    @property
    def source(self) -> str:
        """The key of its source in `SOURCES`."""
        return next(key for key in SOURCES if getattr(self, key))

    def below(self, folder: Path) -> Kernel:
        """The kernel with absolute paths: those of a matrix are relative to `folder`."""

        def absolute(name: str) -> str:
            return os.path.normpath(folder / Path(name).expanduser()) if name else ""

        update: dict[str, object] = {
            key: tuple(map(absolute, value)) if isinstance(value, tuple) else absolute(value)
            for key in PATHS
            if key != "fragment" and (value := getattr(self, key))
        }
        fragments = (absolute(word) if is_fragment_file(word) else word for word in self.fragment)
        return self.model_copy(update={**update, "fragment": tuple(fragments)})

    @property
    def requested(self) -> str:
        """The series, or the source and its paths, as at most 1,024 ASCII characters."""
        if self.fragment:
            names = " and ".join(Path(word).stem for word in self.fragment)
            return _ascii(f"configuration of {names} on Debian {self.linux}")
        value = getattr(self, self.source)
        if self.source in REQUIRED:
            keys = (key for key in SOURCES[self.source] if key != "key" and getattr(self, key))
            value = (value, *(str(getattr(self, key)) for key in keys))
        words = value if isinstance(value, str) else " ".join(value)
        return self.series or _ascii(f"{self.source} {words}")


def _ascii(words: str) -> str:
    return words.encode("ascii", "backslashreplace").decode()[:1024]


def is_fragment_file(word: str) -> bool:
    """Whether a word of `fragment` is the path of a file, and not a name in `images/configs/`."""
    return "/" in word or word.endswith(".config")


class Cmdline(_Model):
    """Parameters `args` that are added to the kernel's command line; cell names contain `name`."""

    name: Name
    args: Text


def _settings(value: Any) -> Any:
    """`{a.b: 1}` means the settings `a.b=1`."""
    if not isinstance(value, dict):
        return value
    for name, word in value.items():
        if not isinstance(word, str | int):
            raise ValueError(f"{name}: not a number or a text")  # noqa: TRY004: pydantic reports only ValueError
    return tuple(f"{name}={word}" for name, word in value.items())


Setting = Annotated[
    str, Field(max_length=512, pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+=[ -~]*[!-~][ -~]*$")
]


class Sysctl(_Model):
    """Kernel parameters `values` that are set before the agent loads; cell names contain `name`."""

    name: Name
    values: Annotated[tuple[Setting, ...], BeforeValidator(_settings), Field(min_length=1)]


class Include(_Model):
    """Adds cells: the product of these axes for the kernels that the globs in `kernel` match.

    `world` is where scenarios work, or what works beside them: see `agent/selftest/worlds.py`. `tests` are
    globs as for `--test`. A cell of several entries runs the tests of all of them. `why` is the
    purpose of the cells, which `harness plan` prints.
    """

    kernel: Globs = ("*",)
    arch: Annotated[tuple[Arch, ...], *_AXIS] = ("amd64",)
    hookset: Annotated[tuple[Hookset, ...], *_AXIS] = ("auto",)
    btf: Annotated[tuple[Btf, ...], *_AXIS] = ("kernel",)
    transport: Annotated[tuple[Transport, ...], *_AXIS] = ("ringbuf",)
    cmdline: Cmdline | None = None
    sysctl: Sysctl | None = None
    world: Annotated[tuple[World, ...], *_AXIS] = ("",)
    tests: Annotated[tuple[Text, ...], *_SOME] = ()
    tags: tuple[Name, ...] = ()
    why: Text | Literal[""] = ""


class Exclude(_Model):
    """Removes the cells that match on every axis, for a `reason` that `harness plan` prints."""

    kernel: Globs = ("*",)
    arch: Globs = ("*",)
    hookset: Globs = ("*",)
    btf: Globs = ("*",)
    transport: Globs = ("*",)
    cmdline: Globs = ("*",)
    sysctl: Globs = ("*",)
    reason: Text


class Suite(_Model):
    """A user's own program that runs on every kernel; its `name` is a column beside the hook sets.

    `files` are files, folders and globs relative to the matrix's folder. They are copied into one folder of
    the guest, where `command` runs as root. `timeout` is a duration such as 90 or 5m in an emulated guest.

    `root` is an installed Debian with systemd instead of the harness's own root. Such a guest has a disk, and
    the command may request up to `reboots` reboots by an exit status; it is run again after each.
    """

    name: Name
    files: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    command: Annotated[tuple[Text, ...], *_SOME]
    timeout: Annotated[float, BeforeValidator(_parsed(quantities.seconds)), Field(le=86_400)] = 60.0
    results: Literal["exit", "tap"] = "exit"
    root: Root = ""
    reboots: Annotated[int, BeforeValidator(_parsed(quantities.count)), Field(le=16)] = 0
    kernel: Globs = ("*",)
    arch: Annotated[tuple[Arch, ...], *_AXIS] = ("amd64",)
    cmdline: Cmdline | None = None
    sysctl: Sysctl | None = None
    tags: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _of_a_root_that_fits(self) -> Suite:
        if self.reboots and not self.root:
            raise ValueError("reboots needs a root with a disk: add root: debian-12")
        if self.root and set(self.arch) != {"amd64"}:
            raise ValueError(f"root {self.root} exists for amd64 only")
        return self

    @property
    def test(self) -> str:
        """The name of the suite's only test."""
        return suite_test(self.name)


def suite_test(name: str) -> str:
    """The name of the only test of the suite `name`."""
    return f"command.{name}"


class Matrix(_Model):
    """The whole file: the product of the axes and `include` without `exclude`, and the `suites`.

    A matrix with suites and without hook sets does not test the agent.
    """

    kernels: Annotated[tuple[Annotated[Kernel, BeforeValidator(_named)], ...], Field(min_length=1)]
    arch: Annotated[tuple[Arch, ...], *_AXIS] = ("amd64",)
    hooksets: Annotated[tuple[Hookset, ...], *_AXIS] = ("auto",)
    btf: Annotated[tuple[Btf, ...], *_AXIS] = ("kernel",)
    transport: Annotated[tuple[Transport, ...], *_AXIS] = ("ringbuf",)
    cmdline: tuple[Cmdline, ...] = ()
    sysctl: tuple[Sysctl, ...] = ()
    include: tuple[Include, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    suites: tuple[Suite, ...] = ()

    @property
    def columns(self) -> tuple[Hookset, ...]:
        """The hook sets of the product; none if the matrix names only suites."""
        return () if self.suites and "hooksets" not in self.model_fields_set else self.hooksets


def validate(model: type[M], document: yaml.Document) -> M:
    """Check `document` against `model`; raises ConfigError with every mistake, one a line."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A list whose only entry is wrong is not also too short.
        own = [d for d in details if d["type"] != "too_short" or d["ctx"]["actual_length"] == len(d["input"])]
        lines = [_sentence(model, document, detail) for detail in own]
        raise ConfigError("\n".join(dict.fromkeys(one_line(line, _MAX_LINE) for line in lines))) from error


def nearest(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or if no name is similar, ` (choose from x, y)` with at most 12 names."""
    if not known:
        return ""
    more = f" and {len(known) - _NAMES} more" if len(known) > _NAMES else ""
    return close_to(word, known) or f" (choose from {', '.join(known[:_NAMES])}{more})"


def close_to(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing if no name is similar."""
    question = did_you_mean(word, known)
    return f" ({question})" if question else ""


def _sentence(model: type[BaseModel], document: yaml.Document, detail: ErrorDetails) -> str:
    place = detail["loc"]
    where = f"{document.name}:{document.line(place)}"
    if detail["type"] == "extra_forbidden":
        key = str(place[-1])
        return f"{where}: unknown key {key!r}{nearest(key, _keys(model, place[:-1]))}"
    what = ".".join(str(part) for part in place if isinstance(part, str)) or "the file"
    return f"{where}: {what}: {_problem(detail)}"


def _problem(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        words = (word.strip("' ") for word in context["expected"].replace(" or ", ",").split(","))
        return f"unknown value {value!r}{nearest(str(value), [word for word in words if word])}"
    if kind == "too_short":
        return "must not be empty"
    if kind in ("model_type", "tuple_type", "string_type"):
        wanted = {"model_type": "keys and values", "tuple_type": "a list", "string_type": "a word"}[kind]
        return f"must be {wanted}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "less_than_equal":
        return f"{value!r} is more than {context['le']:g}"
    if kind == "string_pattern_mismatch":
        return f"{value!r} has characters that are not allowed here"
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The valid keys at `place` in a file with the shape of `model`."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in models if model), None)
