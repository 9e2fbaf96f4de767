"""Kernels that a command line names by path, as entries of a matrix."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import ConfigError
from harness.host import paths
from harness.kernels import archives, kconfig, packages
from harness.plan.cells import fits
from harness.plan.matrix import Kernel, Matrix

_SERIES = "series:"
_FRAGMENT = "fragment:"
WORDS = (_SERIES, _FRAGMENT)  # how a word begins that is neither a path nor a name
_BOOT_FOLDERS = (("arch", "x86"), ("arch", "arm64"))  # above boot/bzImage in a kernel's tree
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]+", re.ASCII)


def added(matrix: Matrix, words: Sequence[str]) -> tuple[Matrix, tuple[str, ...]]:
    """The matrix with a kernel for each of `words` that is a path, and the words with paths as names.

    A word with a slash is a path, and so is one that matches no kernel of the matrix and exists.
    `series:6.12` is Debian's kernel of that series, `fragment:el9` one that is built here. Raises ConfigError
    for a path that does not exist.
    """
    kernels, names = list(matrix.kernels), []
    for word in words:
        is_path = "/" in word or (not _matches(word, matrix) and Path(word).exists())
        if is_path or word.startswith(WORDS):
            kernels.append(from_word(word, {kernel.name for kernel in kernels}))
            names.append(kernels[-1].name)
        else:
            names.append(word)
    return matrix.model_copy(update={"kernels": tuple(kernels)}), tuple(names)


def from_word(word: str, taken: Collection[str] = ()) -> Kernel:
    """The kernel of `series:SERIES`, of `fragment:NAME` or at a path, with a name that is not in `taken`.

    Raises ConfigError.
    """
    if word.startswith(_SERIES):
        return _of_series(word.removeprefix(_SERIES), taken)
    if word.startswith(_FRAGMENT):
        path = kconfig.path_of(word.removeprefix(_FRAGMENT)).absolute()
        own = path.stem if path.parent == kconfig.FOLDER else str(path)
        return Kernel(name=_name(Path(path.stem), taken), fragment=(own,))
    return from_path(Path(word), taken)


def from_path(path: Path, taken: Collection[str] = ()) -> Kernel:
    """The kernel at a path, with a name that is not in `taken`. Raises ConfigError."""
    path = path.expanduser().absolute()
    if not path.exists():
        hint = "name a kernel tree, an image, or a folder of packages"
        raise ConfigError(f"--kernel {path}: no such file or folder", hint=hint)
    tree = path.parents[3] if len(path.parents) > 3 else path
    if path.parts[-4:-2] in _BOOT_FOLDERS and (tree / ".config").is_file():
        path = tree
    try:
        values = {"name": _name(path, taken), _key(path): str(path), **_beside(path)}
        return Kernel.model_validate(values).below(path.parent)
    except ValidationError as error:
        raise ConfigError(
            f"--kernel {str(path)!r}: the path has characters that are not supported", hint="rename it"
        ) from error


def _of_series(series: str, taken: Collection[str]) -> Kernel:
    try:
        return Kernel(name=_name(Path(series), taken), series=series)
    except ValidationError as error:
        raise ConfigError(f"--kernel {_SERIES}{series}: not a series", hint="such as series:6.12") from error


def _beside(image: Path) -> dict[str, str]:
    """The configuration and modules of an image that lies where distributions install it, as in /boot."""
    release = image.name.partition("vmlinuz-")[2]
    if not release or image.name != f"vmlinuz-{release}" or not image.is_file():
        return {}
    config = image.with_name(f"config-{release}")
    roots = (image.parent.parent / prefix / "lib/modules" / release for prefix in ("", "usr"))
    modules = next((root for root in roots if root.is_dir()), None)
    return {
        key: str(path) for key, path in (("config", config), ("modules", modules)) if path and path.exists()
    }


def _key(path: Path) -> str:
    """The key of the source that reads this path."""
    if path.is_dir():
        names = (child.name for child in path.iterdir())
        return "packages" if any(name.endswith(packages.SUFFIXES) for name in names) else "build"
    if path.name.endswith(packages.SUFFIXES):
        return "packages"
    return "build" if path.name.endswith(archives.SUFFIXES) else "image"


def _name(path: Path, taken: Collection[str]) -> str:
    base = _NO_NAME.sub("-", paths.real(path).name if path.name in ("", ".", "..") else path.name)
    base = base.lstrip("._+-")[:56] or "kernel"
    numbered = (f"{base}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([base], numbered) if name not in taken)


def _matches(word: str, matrix: Matrix) -> bool:
    return any(fits(kernel.name, (word,)) for kernel in matrix.kernels)
