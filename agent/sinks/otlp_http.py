"""Sends one export to an OTLP/HTTP collector and interprets the response.

The rules are those of the OTLP specification ("OTLP/HTTP Response", "Throttling"): 2xx is success, possibly
partial. 429, 502, 503 and 504 allow a retry, at the time that the collector requests if any. Every other
response is final. If the collector cannot be reached, the export is retried.
"""

from __future__ import annotations

import gzip
import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from agent.errors import UsageError
from agent.sinks.protobuf import PartialSuccess, export_response

RETRYABLE = frozenset({429, 502, 503, 504})
_ANSWER_BYTES = 64 << 10
_DEFAULT_PATH = "/v1/logs"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The collector accepted the export, except for `rejected` matches."""

    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The collector rejected this export finally."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The export must be retried; `after_s` is the delay that the collector requested."""

    reason: str
    after_s: float | None = None


Outcome = Delivered | Refused | Later


class Collector:
    """A collector at an `http://` or `https://` URL, whose default path is `/v1/logs`.

    The connection is kept between exports. `timeout_s` bounds each wait for the collector.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._url = _parse(url)
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            **(headers or {}),
        }
        self._timeout_s = timeout_s
        self._wall_s = wall_s
        self._connection: http.client.HTTPConnection | None = None

    def export(self, request: bytes) -> Outcome:
        """Send one ExportLogsServiceRequest."""
        try:
            status, retry_after, content = self._post(gzip.compress(request, 1, mtime=0))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Later(f"{type(error).__name__}: {error}")
        if 200 <= status < 300:
            return _read_success(content)
        if status in RETRYABLE:
            return Later(f"HTTP {status}", self._delay(retry_after))
        return Refused(f"HTTP {status}")

    def close(self) -> None:
        """Close the connection; the next export opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        connection = self._connection or self._connect()
        connection.request("POST", self._url.path, body, self._headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        return response.status, response.headers.get("Retry-After"), content

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=self._timeout_s, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return self._connection

    def _delay(self, retry_after: str | None) -> float | None:
        """Return the seconds of a Retry-After header, in either form of RFC 9110, section 10.2.3."""
        if retry_after is None:
            return None
        if retry_after.strip().isdigit():
            return float(retry_after)
        try:
            return max(0.0, parsedate_to_datetime(retry_after).timestamp() - self._wall_s())
        except ValueError:
            return None


def _read_success(content: bytes) -> Delivered:
    try:
        partial = export_response(content)
    except ValueError:  # any content of a 2xx response is a success
        partial = PartialSuccess()
    return Delivered(partial.rejected, partial.reason)


def _parse(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username:
        raise UsageError(f"invalid OTLP endpoint {url}", hint="write http://HOST:PORT or https://HOST:PORT")
    return parts if parts.path not in {"", "/"} else parts._replace(path=_DEFAULT_PATH)
