"""Encodes and decodes the part of the protobuf wire format that OTLP logs need, without a library.

Field numbers are those of opentelemetry-proto 1.x (`logs/v1/logs.proto`,
`collector/logs/v1/logs_service.proto`, `common/v1/common.proto`); they are part of a stable format and cannot
change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Encode an unsigned number, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(number: int, content: bytes) -> bytes:
    """Encode a field of a message, a string or bytes."""
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def fixed64(number: int, value: int) -> bytes:
    """Encode a field of a number of eight bytes."""
    return varint(number << 3 | _FIXED64) + value.to_bytes(8, "little")


def number(field: int, value: int) -> bytes:
    """Encode a field of a number or an enumeration."""
    return varint(field << 3 | _VARINT) + varint(value)


def attributes(field: int, values: Mapping[str, str]) -> bytes:
    """Encode a repeated KeyValue field of strings."""
    pairs = (
        message(1, key.encode()) + message(2, message(1, value.encode())) for key, value in values.items()
    )
    return b"".join(message(field, pair) for pair in pairs)


def log_record(
    unix_ns: int, observed_ns: int, severity: int, body: bytes, name: str, values: Mapping[str, str]
) -> bytes:
    """Encode one LogRecord as an element of ScopeLogs.log_records; records can be joined. `body` is UTF-8."""
    return message(
        2,
        fixed64(1, unix_ns)
        + fixed64(11, observed_ns)
        + number(2, severity)
        + message(5, message(1, body))
        + attributes(6, values)
        + message(12, name.encode()),
    )


def export_request(resource: Mapping[str, str], scope: str, version: str, records: bytes) -> bytes:
    """Encode an ExportLogsServiceRequest with one resource and scope; `records` are joined `log_record`s."""
    named = message(1, scope.encode()) + message(2, version.encode())
    scope_logs = message(1, named) + records
    return message(1, message(1, attributes(1, resource)) + message(2, scope_logs))


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """The matches that the collector rejected in an accepted export."""

    rejected: int = 0
    reason: str = ""


def export_response(content: bytes) -> PartialSuccess:
    """Decode an ExportLogsServiceResponse. Raises ValueError if it is invalid."""
    rejected, reason = 0, b""
    for field, partial in _fields(content):
        if field == 1 and isinstance(partial, bytes):
            for inner, value in _fields(partial):
                if inner == 1 and isinstance(value, int):
                    rejected = value
                elif inner == 2 and isinstance(value, bytes):
                    reason = value
    return PartialSuccess(rejected, reason.decode("utf-8", "backslashreplace"))


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(content):
        key, position = _read_varint(content, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _read_varint(content, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = _read_varint(content, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"protobuf: unknown wire type {kind}")
        if position + length > len(content):
            raise ValueError("protobuf: truncated field")
        yield key >> 3, content[position : position + length]
        position += length


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise ValueError("protobuf: truncated number")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("protobuf: number too long")
