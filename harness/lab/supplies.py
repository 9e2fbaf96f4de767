"""Resolves, fetches and builds the files that the machines of one run boot from, and the agent's bundle."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from harness.errors import ConfigError, HarnessError, InfrastructureError, UnknownKernelError
from harness.guest.deploy import OBJECT, BundleSources, Compiled, build, for_guest
from harness.host import background
from harness.host.background import Work, ended
from harness.host.cache import Cache
from harness.host.canary import host_arch
from harness.host.progress import Phase, Progress, Step, of_machine
from harness.images import COMPILER, compilers, initramfs, installed_root, modules_image, root_image
from harness.kernels import (
    KernelRequest,
    Lock,
    ResolvedKernel,
    preflight,
    reduced,
    resolver,
    series,
    sources,
)
from harness.kernels import lock as locking
from harness.kernels.preflight import Root
from harness.kernels.web import AbsentError
from harness.lab import emulation, provenance
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import Agent, KernelFacts, Package
from harness.run.machines import Pins
from harness.run.supplies import Deliveries, Supplies
from harness.text import one_line

BACKOFF_S = (1.0, 4.0)  # pauses between three attempts to fetch a kernel
AT_ONCE = 6  # machines whose kernels are resolved, fetched or built at the same time
ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
# The files that `make build` compiles, each with the folder of its sources.
_COMPILED = {"fim.bpf.o": "bpf", "fim-casts.bpf.o": "bpf", "fim-gen": "agent/selftest/generator"}
# The marks that make touches before it compiles the sources in a folder; their names end with the digest.
_MARKS = {"bpf": ".fim.bpf.o", "agent/selftest/generator": ".fim-gen"}

T = TypeVar("T")
Resolve = Callable[[Cell, Lock | None, Cache, Progress], T]


class Preparation:
    """Makes the `Supplies` of one run."""

    def __init__(
        self,
        accelerator: str,
        progress: Progress,
        lock: Path | Lock | None = None,
        agent: Agent | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.agent = agent  # instead of the one that is built now
        self.taken: Mapping[str, ResolvedKernel] = {}  # kernels in the cache, by machine
        self.pause: Callable[[float], object] = background.pause
        self.progress = progress
        self.lock = lock
        self.extra = ""  # packages of the guests' root; see `images.root_image`
        self.store: Cache = Cache(progress=progress)
        self.kernels: dict[str, KernelFacts] = {}
        self.files: dict[str, dict[str, str]] = {}
        self.missing: dict[str, str] = {}
        self.refused: dict[str, ConfigError] = {}  # kernels that the user must change
        self.fetch_s: dict[str, float] = {}
        self.image_s: dict[str, float] = {}

    def supplies(self, plan: Plan) -> Supplies:
        """Return the files of all machines, and the reason for each machine that cannot be built.

        A kernel that cannot be resolved, fetched or built affects its own machines only. Raises
        ConfigError if no archive has any of the kernels, if none can be a guest, or if a compiler is missing.
        """
        return self.deliver(plan).whole()

    def deliver(self, plan: Plan, order: Sequence[str] = ()) -> Deliveries:
        """Do the same in threads, and return when the first machine can boot; see `Bench.deliver`."""
        # Keep the agent before fetching: a later `make build` must not change the agent of this run.
        agent = self._agent_for(plan)
        machines = plan.machines()
        first = {name: cells[0] for name, cells in machines.items()}
        emulation.check_programs(cell.arch for cell in first.values())
        work = Work(AT_ONCE)
        try:
            found = self._resolve(first, work, _located)
            wanted = [name for name in dict.fromkeys((*order, *machines)) if name in found]
            # A build takes all processors for minutes: those that wait for it must not occupy the threads.
            wanted.sort(key=lambda name: first[name].kernel.source == "fragment")
            parts = {name: work.submit(self._part, machines[name], found[name], agent) for name in wanted}
            common = Supplies(accelerator=self.accelerator, agent=agent, missing=dict(self.missing))
            deliveries = Deliveries(common, parts, work)
            deliveries.first()
        except BaseException:
            work.end()
            raise
        if self.refused and len(self.refused) == len(first):
            words = dict.fromkeys(error.message for error in self.refused.values())
            raise ConfigError("\n".join(words), hint=next(iter(self.refused.values())).hint)
        return deliveries

    def _part(self, cells: Sequence[Cell], found: ResolvedKernel | Lock, agent: Agent | None) -> Supplies:
        """Supply the machine of these cells; return what its guests need, or why there will be none."""
        name, cell = cells[0].machine, cells[0]
        resolved = self._try(name, cell, found)
        if agent and resolved:
            self._reduce(agent, cells, resolved.release)
        if error := self.refused.get(name):
            self.progress(f"{name}: {one_line(error.message)}; {error.hint}")
        self.progress(Step(Phase.WAIT, machine=name))
        return Supplies(
            accelerator=self.accelerator,
            kernels=_of(name, self.kernels),
            files=_of(name, self.files),
            missing=_of(name, self.missing),
            unproven={name: resolved.digest} if resolved and resolved.source != "series" else {},
            fetch_s=_of(name, self.fetch_s),
            image_s=_of(name, self.image_s),
        )

    def pins(self, plan: Plan) -> Pins:
        """Return what other hosts must use to test the same. Raises HarnessError, as `supplies` does."""
        agent = self._agent_for(plan)
        first = {name: cells[0] for name, cells in plan.machines().items()}
        with ended(Work(AT_ONCE)) as work:
            resolved = self._resolve(first, work, _resolved)
        kernels = {
            locking.key_of(request(first[name])): kernel
            for name, kernel in resolved.items()
            if first[name].kernel.source == "series"
        }
        return Pins(
            lock=Lock(kernels).to_json(),
            kernels={name: kernel.digest for name, kernel in resolved.items()},
            own={name: kernel.to_plain() for name, kernel in resolved.items() if kernel.source != "series"},
            agent=agent,
        )

    def _resolve(
        self, first: Mapping[str, Cell], work: Work, resolve: Resolve[T]
    ) -> dict[str, T | ResolvedKernel]:
        """Resolve the kernels of machines; give up those that cannot be resolved."""
        taken = {name: self.taken[name] for name in first if name in self.taken}
        rest = {name: cell for name, cell in first.items() if name not in taken}
        resolved, unresolved = _each(rest, resolve, self.lock, self.progress, self.store, work)
        for name, error in unresolved.items():
            self._give_up(name, error.message)
        found: dict[str, T | ResolvedKernel] = {**resolved, **taken}
        return {name: found[name] for name in first if name in found}

    def _try(self, name: str, cell: Cell, found: ResolvedKernel | Lock) -> ResolvedKernel | None:
        """Supply a machine and return its kernel, in up to three attempts: a mirror may fail for a moment.

        If the archive then still has no file of the kernel, take the next older one of its series.
        """
        left = list(BACKOFF_S)
        resolved = None
        while True:
            try:
                resolved = self._take(name, cell, found)
                self._supply(name, cell, resolved)
            except ConfigError as error:
                self.refused[name] = error
                self._give_up(name, error.message, say=False)
            except (OSError, ValueError) as error:
                # A full disk, or an image that cannot be parsed: another attempt does not help.
                self._give_up(name, str(error))
            except InfrastructureError as error:
                if left:
                    self.progress(f"{name}: {error.message}; trying again in {left[0]:g} s")
                    self.pause(left.pop(0))
                    continue
                if isinstance(error, AbsentError) and resolved and (older := self._older(cell, resolved)):
                    self.progress(f"{name}: {error.message}; taking {older.release}")
                    found = older
                    continue
                self._give_up(name, error.message)
            return resolved

    def _take(self, name: str, cell: Cell, found: ResolvedKernel | Lock) -> ResolvedKernel:
        """Return the kernel of a machine; if only its packages are known yet, fetch them.

        Raises HarnessError.
        """
        if isinstance(found, Lock):
            found = _resolved(cell, found, self.store, of_machine(name, self.progress))
        self.kernels[name] = _facts(cell, found)
        return found

    def _older(self, cell: Cell, resolved: ResolvedKernel) -> ResolvedKernel | None:
        """Return the next older kernel of a series; None for a locked kernel and one of another source."""
        locked = locking.load(self.lock) if isinstance(self.lock, Path) else self.lock
        if cell.kernel.source != "series" or (locked and locked.find(request(cell))):
            return None
        return resolver.older(resolved, request(cell))

    def _give_up(self, name: str, reason: str, *, say: bool = True) -> None:
        self.files.pop(name, None)
        self.missing[name] = one_line(reason)
        if say:
            self.progress(f"{name}: {one_line(reason)}")

    def _supply(self, name: str, cell: Cell, resolved: ResolvedKernel) -> None:
        began = time.monotonic()
        progress = of_machine(name, self.progress)
        kernel = sources.fetch(resolved, self.store, progress)
        place = preflight.check(kernel)
        needed = sources.fetch_headers(resolved, self.store, progress) if cell.compiles else None
        self.fetch_s[name] = time.monotonic() - began
        extra = COMPILER if cell.compiles else self.extra
        in_memory = place is Root.MEMORY
        if cell.root:
            root = installed_root(cell.root, self.store, progress)
        else:
            root = root_image(cell.arch, self.store, progress, extra=extra, in_memory=in_memory)
        self.files[name] = {"kernel": str(kernel.vmlinuz)}
        if in_memory:
            self.files[name]["initramfs"] = str(initramfs(kernel, self.store, progress, root=root))
        else:
            self.files[name] |= {
                "initramfs": str(initramfs(kernel, self.store, progress)),
                "modules": str(modules_image(kernel, self.store, progress, headers=needed)),
                "root": str(root.path),
            }
        if cell.compiles:
            made_with = [(one.name, one.version, one.sha256) for one in (needed.packages if needed else ())]
            self._record(name, (*made_with, *compilers(root)))
        if kernel.config:
            self.files[name]["config"] = str(kernel.config)
        if kernel.btf:
            self.files[name]["btf"] = str(kernel.btf)
        self.image_s[name] = time.monotonic() - began - self.fetch_s[name]

    def _agent_for(self, plan: Plan) -> Agent | None:
        """Return the agent of this run; None if no planned test needs it."""
        arches = {cell.arch for cell in plan.cells if cell.tests and not cell.suite}
        return (self.agent or self._agent(arches)) if arches else None

    def _agent(self, arches: Collection[str]) -> Agent:
        """Keep the bundle that the machines of this run get, with the compiled files of these architectures.

        Raises ConfigError if a part was not built, or from other sources than are here now.
        """
        check_built(ROOT, arches)
        return provenance.keep(whole_bundle(arches), ROOT, self.store)

    def _reduce(self, agent: Agent, cells: Sequence[Cell], release: str) -> None:
        """Reduce type information for cells that must not use the kernel's own; deployed with the agent."""
        name = cells[0].machine
        if name not in self.files or all(cell.btf != "external" for cell in cells):
            return
        try:
            files = self.files[name]
            programs = provenance.member(provenance.kept(agent, self.store), f"{cells[0].arch}/{OBJECT}")
            image = Path(files.get("btf", files["kernel"]))
            self.files[name]["types"] = str(reduced.types(image, release, programs, self.store))
        except (InfrastructureError, OSError, ValueError) as error:
            self._give_up(name, str(error))

    def _record(self, name: str, packages: Iterable[tuple[str, str, str]]) -> None:
        """Add the packages of compiler and headers to the facts of a machine's kernel."""
        more = (Package(name=one, version=version, sha256=sha256) for one, version, sha256 in packages)
        facts = self.kernels[name]
        self.kernels[name] = facts.model_copy(update={"packages": (*facts.packages, *more)})


def resolve_all(
    cells: Mapping[str, Cell], lock: Path | Lock | None, progress: Progress, store: Cache | None = None
) -> tuple[dict[str, ResolvedKernel], dict[str, HarnessError]]:
    """Return the kernel of each cell, and the errors of cells without one, by the names in `cells`.

    Raises ConfigError for an unknown flavour or architecture, a lock or a kernel of the user that cannot be
    read, and if no archive has any of the kernels.
    """
    with ended(Work(AT_ONCE)) as work:
        return _each(cells, _resolved, lock, progress, store or Cache(progress=progress), work)


def _each(
    cells: Mapping[str, Cell],
    resolve: Resolve[T],
    lock: Path | Lock | None,
    progress: Progress,
    store: Cache,
    work: Work,
) -> tuple[dict[str, T], dict[str, HarnessError]]:
    """Call `resolve` for each cell, side by side; see `resolve_all`."""
    locked = locking.load(lock) if isinstance(lock, Path) else lock
    for cell in cells.values():
        sources.check(cell.kernel, cell.arch)
    sources.check_host(cell.kernel for cell in cells.values())
    results = {
        name: work.submit(resolve, cell, locked, store, of_machine(name, progress))
        for name, cell in cells.items()
    }
    found: dict[str, T] = {}
    missing: dict[str, HarnessError] = {}
    for name, result in results.items():
        try:
            found[name] = result.result()
        except (UnknownKernelError, InfrastructureError) as error:
            missing[name] = error
        progress(Step(Phase.WAIT, machine=name))
    unknown = [error for error in missing.values() if isinstance(error, UnknownKernelError)]
    if cells and len(unknown) == len(cells):
        words = dict.fromkeys(error.message for error in unknown)
        raise ConfigError("\n".join(words), hint=unknown[0].hint)
    return found, missing


def _resolved(cell: Cell, lock: Lock | None, store: Cache, progress: Progress) -> ResolvedKernel:
    return sources.resolve(cell.kernel, cell.arch, lock=lock, store=store, progress=progress)


def _located(cell: Cell, lock: Lock | None, store: Cache, progress: Progress) -> ResolvedKernel | Lock:
    """Resolve a kernel without fetching packages: of an archive's kernel, return only which they are."""
    if cell.kernel.source in sources.ARCHIVES:
        return sources.pinned(cell.kernel, cell.arch, lock, progress)
    return _resolved(cell, lock, store, progress)


def check_built(root: Path, arches: Iterable[str]) -> None:
    """Raise ConfigError for a compiled file that make did not make of the sources as they are now.

    make touches a mark with the digest of the sources before it compiles. Without this check an old file
    would show as failures of the agent.
    """
    for arch in sorted({*arches}):
        for name, folder in _COMPILED.items():
            sources = sorted((root / folder).glob("*.[ch]"))
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
            built = root / "build" / folder_of(arch) / name
            mark = built.with_name(f"{_MARKS[folder]}.{digest}")
            if not mark.exists() or not built.exists() or built.stat().st_mtime_ns < mark.stat().st_mtime_ns:
                raise ConfigError(
                    f"{built.relative_to(root)}: not built from the sources in {folder}/",
                    hint=f"run `make {make_target(arch)}`",
                )


def folder_of(arch: str) -> str:
    """Return the folder in build/ with the files that are compiled for `arch`; "" for the host's own."""
    return "" if arch == host_arch() else arch


def make_target(arch: str) -> str:
    """Return the target of the Makefile that compiles for `arch`."""
    return "build" if arch == host_arch() else f"build-{arch}"


def whole_bundle(arches: Iterable[str]) -> bytes:
    """Return the bundle of the agent as it is built now, for these architectures.

    Raises ConfigError if a part was not built.
    """
    compiled = {
        arch: Compiled(*(BUILD / folder_of(arch) / name for name in _COMPILED)) for arch in sorted({*arches})
    }
    return build(BundleSources(ROOT / "agent", ROOT / "bpf", compiled, BUILD / "rules_tables.py"))


@functools.cache
def bundle(arch: str = "amd64") -> bytes:
    """Return the bundle for guests of `arch` as it is built now. Raises ConfigError if a part is missing."""
    return for_guest(whole_bundle((arch,)), arch)


def request(cell: Cell) -> KernelRequest:
    """Return the request for a cell's kernel of Debian's archive."""
    return series.request_of(cell.kernel, cell.arch)


def _facts(cell: Cell, resolved: ResolvedKernel) -> KernelFacts:
    return KernelFacts(
        name=cell.kernel.name,
        requested=cell.kernel.requested,
        release=resolved.release,
        packages=tuple(
            Package(name=package.name, version=package.version, sha256=package.sha256)
            for package in resolved.packages
        ),
    )


def _of(name: str, values: Mapping[str, T]) -> dict[str, T]:
    return {name: values[name]} if name in values else {}
