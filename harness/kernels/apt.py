"""Runs the host's apt with its own sources, state, cache and keyring, as if no package were installed.

apt checks the signature of each index and the hash of each package. Each set of suites has its own folder, so
a request for one kernel loads one index. Of `/etc/apt` only the settings that are needed to reach a mirror
are used (proxy, timeouts, policy on dates); hooks and preferences of the host must not change which kernel is
found.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import locks
from harness.host.manifest import digest
from harness.host.programs import ProgramError, line_reader, run
from harness.host.progress import Phase, Progress, Step, silent
from harness.kernels import deb822, downloads
from harness.kernels.mirrors import Mirrors
from harness.kernels.web import AbsentError

MAX_AGE_S = 12 * 3600.0
_TRANSPORT = re.compile(
    r'Acquire::(?:https?|ftp|tor|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)\b[^"]*"[^"]*";'
)
_FOLDERS = (
    "state/lists/partial",
    "cache/archives/partial",
    "etc/apt.conf.d",
    "etc/preferences.d",
    "etc/sources.list.d",
)
_GONE = re.compile(r"^E: Failed to fetch \S+/(\S+)\s+404\b", re.MULTILINE)
_UNSIGNED = (
    "NO_PUBKEY",
    "is not signed",
    "public key is not available",
    "EXPKEYSIG",
    "REVKEYSIG",
    "signature verif",
)
_SHOWN_AT_ONCE = 500


@dataclass(frozen=True)
class Apt:
    """apt for one architecture and a few suites; `home` is a folder that nothing else uses.

    An index older than `max_age_s` seconds is fetched again.
    """

    home: Path
    arch: str
    suites: tuple[str, ...]
    mirrors: Mirrors
    max_age_s: float = MAX_AGE_S
    component: str = "main"

    def refresh(self, progress: Progress = silent) -> None:
        """Fetch the indexes unless they are recent. If that fails, use older ones and report their age.

        Raises InfrastructureError if there is no older index, or a signature is wrong.
        """
        with locks.locked(self._lock):
            age = self._age()
            if age < self.max_age_s:
                return
            self._configure()
            progress(Step(Phase.FETCH, f"the package index of {', '.join(self.suites)} ({self.arch})"))
            try:
                with self._turn():
                    self._run("apt-get", "update", "--error-on=any")
            except ProgramError as error:
                if age == float("inf") or _mentions(error.stderr, _UNSIGNED):
                    raise self._not_refreshed(error) from error
                progress(f"index not refreshed, using that of {age / 3600:.0f} hours ago: {error.message}")
            else:
                self._stamp.write_text(self._sources())

    def names(self, prefix: str) -> list[str]:
        """All package names with that prefix, including those that occur only as a dependency."""
        return self._run("apt-cache", "pkgnames", prefix).split()

    def show(self, names: Sequence[str]) -> list[dict[str, str]]:
        """The index's stanzas of these packages, in any order; none for a package that does not exist."""
        stanzas: list[dict[str, str]] = []
        for start in range(0, len(names), _SHOWN_AT_ONCE):
            stanzas += self._show(names[start : start + _SHOWN_AT_ONCE])
        return stanzas

    def closure(self, names: Sequence[str]) -> list[str]:
        """The files that apt would fetch to install these packages on an empty system, sorted.

        Each line has a file name and a SHA-256.
        Raises InfrastructureError if a package or one of its dependencies does not exist.
        """
        remembered = self.home / f"closure-{digest(*sorted(names))[:16]}"
        with locks.locked(self._lock):
            if not _newer(remembered, self._stamp):
                remembered.write_text("".join(f"{line}\n" for line in self._closure(names)))
            return remembered.read_text().splitlines()

    def download(
        self,
        packages: Iterable[tuple[str, str]],
        folder: Path,
        percent: Callable[[float], None] = lambda _percent: None,
    ) -> None:
        """Fetch these packages, given as name and version, into a folder.

        `percent` is called in another thread with the percentage that has arrived.
        Raises InfrastructureError, and AbsentError if the archive has no file that the index names.
        """
        try:
            with self._turn(), line_reader(lambda line: _report_percent(line, percent)) as status:
                words = [f"{name}={version}" for name, version in packages]
                inherit = {status: f"-oAPT::Status-Fd={status}"}
                self._run("apt-get", "download", *words, cwd=folder, inherit=inherit)
        except ProgramError as error:
            gone = _GONE.search(error.stderr)
            if not gone:
                raise
            self._stamp.unlink(missing_ok=True)
            raise AbsentError(
                f"{gone[1]}: in the index of {', '.join(self.suites)}, but missing in the archive (404)",
                hint="run again to refresh the index; if it fails again, wait until the mirror is updated",
            ) from error

    def download_file(self, filename: str, sha256: str, target: Path) -> None:
        """Fetch a file by name and hash that the index no longer lists. Raises ProgramError."""
        uri = f"{self.mirrors.of(self.suites[0])}/{filename}"
        with self._turn():
            self._run("/usr/lib/apt/apt-helper", "download-file", uri, str(target), f"SHA256:{sha256}")

    def source_lines(self) -> list[str]:
        """The sources in the one-line format, one a suite."""
        return self._sources().splitlines()

    def _turn(self) -> threading.Semaphore:
        return downloads.turn(self.mirrors.of(self.suites[0]))

    @property
    def _lock(self) -> Path:
        return self.home.with_name(f"{self.home.name}.lock")

    @property
    def _stamp(self) -> Path:
        return self.home / "refreshed"

    def _age(self) -> float:
        """Seconds since the last refresh from these sources; infinite if they were never refreshed."""
        try:
            if self._stamp.read_text() != self._sources():
                return float("inf")
            return max(0.0, time.time() - self._stamp.stat().st_mtime)
        except FileNotFoundError:
            return float("inf")

    def _sources(self) -> str:
        signed = f"[signed-by={self.mirrors.keyring}]"
        return "".join(
            f"deb {signed} {self.mirrors.of(suite)} {suite} {self.component}\n" for suite in self.suites
        )

    def _configure(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # apt.conf may hold a proxy's password
        for folder in _FOLDERS:
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "status").touch()
        (self.home / "etc/sources.list").write_text(self._sources())
        settings = {
            "Dir": self.home,
            "Dir::State": self.home / "state",
            "Dir::State::status": self.home / "status",
            "Dir::Cache": self.home / "cache",
            "Dir::Cache::srcpkgcache": "",  # half of the cache's size, and only `apt-get install` uses it
            "Dir::Etc": self.home / "etc",
            "Dir::Etc::main": "apt.conf",
            "Dir::Etc::netrc": "/etc/apt/auth.conf",
            "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
            "Dir::Bin::methods": "/usr/lib/apt/methods",
            "APT::Architecture": self.arch,
            "APT::Architectures::": self.arch,
            "APT::Sandbox::User": "root",  # its user _apt cannot enter a home directory
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        self._config.write_text("\n".join([*lines, *transport_settings()]) + "\n")

    @property
    def _config(self) -> Path:
        return self.home / "apt.conf"

    def _closure(self, names: Iterable[str]) -> list[str]:
        options = ("--print-uris", "-qq", "--no-install-recommends", "-o", "Acquire::ForceHash=SHA256")
        printed = self._run("apt-get", "install", *options, *names).splitlines()
        # 'URI' FILE SIZE SHA256:HASH
        return sorted(" ".join(line.split()[1::2]) for line in printed if line.startswith("'"))

    def _show(self, names: Sequence[str]) -> list[dict[str, str]]:
        try:
            return list(deb822.stanzas(self._run("apt-cache", "show", *names)))
        except ProgramError as error:
            if "No packages found" in error.stderr:
                return []
            raise

    def _run(
        self, program: str, *words: str, cwd: Path | None = None, inherit: Mapping[int, str] | None = None
    ) -> str:
        environment = {"APT_CONFIG": str(self._config)}
        return run([program, *words], package="apt", environment=environment, cwd=cwd, inherit=inherit)

    def _not_refreshed(self, error: ProgramError) -> InfrastructureError:
        if _mentions(error.stderr, _UNSIGNED):
            hint = f"{self.mirrors.keyring} may be too old: upgrade the package debian-archive-keyring"
        else:
            hint = "check the network and that the mirror carries this suite, or name another with --mirror"
        return InfrastructureError(
            f"cannot fetch the package index of {', '.join(self.suites)}: {error.message}", hint=hint
        )


def _report_percent(line: str, percent: Callable[[float], None]) -> None:
    """Report the percentage of a line from apt's status descriptor: `dlstatus:FILE:PERCENT:TEXT`."""
    kind, _, rest = line.partition(":")
    if kind == "dlstatus":
        with contextlib.suppress(ValueError, IndexError):
            percent(float(rest.split(":")[1]))


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime_ns > than.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _mentions(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


@lru_cache(maxsize=1)
def transport_settings() -> tuple[str, ...]:
    """The lines of the host's apt configuration that are needed to reach a mirror."""
    return tuple(
        line for line in run(["apt-config", "dump"], package="apt").splitlines() if _TRANSPORT.fullmatch(line)
    )
