"""Chooses the Debian mirrors: those that the user names, else the host's own, else mmdebstrap's defaults.

Two archives matter: the security archive has the suites named `<release>-security`, the main archive has all
others. Archives of other vendors are ignored.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host.programs import ProgramError, run
from harness.kernels import deb822

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = Path("/etc/apt")
LISTS = Path("/var/lib/apt/lists")

_RELEASES = "buster|bullseye|bookworm|trixie|forky|sid|(?:old){0,2}stable|testing|unstable|experimental"
_MAIN = re.compile(rf"(?:{_RELEASES})(?:-updates|-backports(?:-sloppy)?|-proposed-updates)?")
_SECURITY = re.compile(rf"(?:{_RELEASES})(?:-security|/updates)")
_URI = re.compile(r"(?:[a-z][a-z0-9]*\+)?(?:https?|file|copy|mirror):\S+")
_OFF = ("no", "false", "without", "off", "disable")  # the words that apt accepts
_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?:\s+(?P<components>.*)|$)"
)
_SIGNED_BY = re.compile(r"signed-by=(\S+)", re.IGNORECASE)
_ORIGIN = re.compile(r"^Origin: *(.*?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """One archive from the host's apt configuration; `signed_by` are names of keyring files."""

    uri: str
    suite: str
    components: tuple[str, ...] = ("main",)
    signed_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mirrors:
    """The URIs of the two archives, and the keyring that verifies both."""

    main: str
    security: str
    keyring: Path = KEYRING

    def of(self, suite: str) -> str:
        """The URI of the archive that has the suite."""
        return self.security if _SECURITY.fullmatch(suite) else self.main


def find(main: str = "", security: str = "", *, folder: Path = SOURCES) -> Mirrors:
    """The mirrors to use: `main` and `security` if given, else the host's own, else mmdebstrap's defaults.

    Raises InfrastructureError if a mirror cannot be found, or if Debian's keyring is not installed.
    """
    if not KEYRING.exists():
        raise InfrastructureError(f"{KEYRING} is missing", hint="install the package debian-archive-keyring")
    sources = list(host_sources(folder))
    main = main or _first(sources, _MAIN)
    security = security or _first(sources, _SECURITY)
    if not main or not security:
        defaults = list(parse_one_line(_mmdebstrap_sources()))
        main = main or _first(defaults, _MAIN)
        security = security or _first(defaults, _SECURITY)
    if not main or not security:
        raise InfrastructureError(
            f"no Debian mirror found in the apt sources of {folder}", hint="name one with --mirror"
        )
    return Mirrors(main, security)


def host_sources(folder: Path = SOURCES) -> Iterator[Source]:
    """The sources of the apt whose configuration is in `folder`, in apt's own order."""
    parts = folder / "sources.list.d"
    for path in (folder / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        yield from parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)


def parse_one_line(text: str) -> Iterator[Source]:
    """The `deb` lines of a sources.list(5); lines that cannot be parsed are skipped."""
    for line in text.splitlines():
        fields = _ONE_LINE.match(line.partition("#")[0].strip())
        if fields and _URI.fullmatch(fields["uri"]):
            signed_by = _keyrings(" ".join(_SIGNED_BY.findall(fields["options"] or "")).replace(",", " "))
            components = tuple((fields["components"] or "").split())
            yield Source(fields["uri"].rstrip("/"), fields["suite"], components, signed_by)


def parse_deb822(text: str) -> Iterator[Source]:
    """The enabled `deb` stanzas of a deb822 file, one source for each pair of URI and suite."""
    for stanza in deb822.stanzas(text):
        if (
            "deb" not in stanza.get("types", "").split()
            or stanza.get("enabled", "yes").strip().lower() in _OFF
        ):
            continue
        for suite in stanza.get("suites", "").split():
            for uri in filter(_URI.fullmatch, stanza.get("uris", "").split()):
                components = tuple(stanza.get("components", "").split())
                yield Source(uri.rstrip("/"), suite, components, _keyrings(stanza.get("signed-by", "")))


def _keyrings(words: str) -> tuple[str, ...]:
    """The names of the keyring files; a key that is embedded in the source has no name."""
    return tuple(Path(word).name for word in words.split() if word.startswith("/"))


def _first(sources: Iterable[Source], suites: re.Pattern[str]) -> str:
    """The URI of the first such source that is Debian's; sources whose release file is known go first."""
    origins = [(source, _origin(source)) for source in sources if suites.fullmatch(source.suite)]
    proven = [source.uri for source, origin in origins if origin == "Debian"]
    likely = [source.uri for source, origin in origins if not origin and _may_be_debian(source)]
    return next(iter(proven + likely), "")


def _may_be_debian(source: Source) -> bool:
    """Other vendors use Debian's suite names too, but with their own components or keys."""
    signed = not source.signed_by or any("debian" in name for name in source.signed_by)
    return "main" in source.components and signed


def _origin(source: Source) -> str:
    """The `Origin` of an archive from the release file that apt has fetched; "" if it has fetched none."""
    place = source.uri.partition("://")[2].rpartition("@")[2].replace("_", "%5f").replace("/", "_")
    for name in ("InRelease", "Release"):
        path = LISTS / f"{place}_dists_{source.suite.replace('/', '_')}_{name}"
        try:
            match = _ORIGIN.search(path.read_text(errors="replace"))
        except OSError:
            continue
        return match[1] if match else "unknown"
    return ""


def _mmdebstrap_sources() -> str:
    """The sources.list that mmdebstrap writes; a hook stops it before it uses the network."""
    with tempfile.TemporaryDirectory() as folder:
        stop = 'cat "$1/etc/apt/sources.list" >&2; exit 1'
        argv = [
            "mmdebstrap",
            "--quiet",
            "--variant=custom",
            f"--setup-hook={stop}",
            "bookworm",
            f"{folder}/none.tar",
        ]
        try:
            return run(argv, package="mmdebstrap")
        except ProgramError as error:
            return error.stderr
