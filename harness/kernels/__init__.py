"""Turns a request for a kernel into files on this disk; `sources` has one module for each place."""

from harness.kernels.fetcher import fetch
from harness.kernels.headers import Headers, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import FetchedKernel, KernelRequest, Package, ResolvedKernel
from harness.kernels.repositories import Repositories
from harness.kernels.resolver import available, resolve

__all__ = [
    "FetchedKernel",
    "Headers",
    "KernelRequest",
    "Lock",
    "Package",
    "Repositories",
    "ResolvedKernel",
    "available",
    "fetch",
    "fetch_headers",
    "resolve",
]
