"""Downloads files of a bounded size over HTTP, and follows a redirect only within one host."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from harness.errors import ConfigError, HarnessError, InfrastructureError
from harness.host import background
from harness.kernels.downloads import turn

_TIMEOUT_S = 60.0  # without a byte
_STEP = 1 << 20


class AbsentError(InfrastructureError):
    """The server answered that it does not have the file."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (new.scheme, new.netloc) not in ((old.scheme, old.netloc), ("https", old.netloc)):
            fp.close()
            raise ConfigError(
                f"{req.full_url}: redirects to another host, {new.scheme}://{new.netloc}",
                hint="name that host in the matrix if you trust it",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path, limit: int, received: Callable[[int], None] = lambda _size: None) -> str:
    """Write what `url` has into a new file and return its SHA-256; `received` gets the bytes so far.

    Raises AbsentError for 404, InfrastructureError for all other failures of the network, and ConfigError for
    more than `limit` bytes or a redirect to another host.
    """
    digest, size = hashlib.sha256(), 0
    opener = urllib.request.build_opener(_SameHost)
    try:
        with turn(url), opener.open(url, timeout=_TIMEOUT_S) as answer, target.open("xb") as file:
            while data := answer.read(_STEP):
                size += len(data)
                if size > limit:
                    raise ConfigError(f"{url}: larger than {limit} bytes", hint="use another mirror")
                digest.update(data)
                file.write(data)
                received(size)
                background.pause(0)  # ends here if the run does
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise _answered(url, error) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        cause = getattr(error, "reason", error) or type(error).__name__
        raise InfrastructureError(
            f"{url}: cannot be fetched: {cause}", hint="check the network and the address"
        ) from error
    return digest.hexdigest()


def _answered(url: str, error: urllib.error.HTTPError) -> HarnessError:
    if error.code in (404, 410):
        return AbsentError(f"{url}: not found ({error.code})", hint="correct the address, or run again later")
    if error.code < 400:
        return ConfigError(f"{url}: redirects to an address that is not HTTP", hint="use another mirror")
    return InfrastructureError(f"{url}: the server answered {error.code}", hint="run again later")
