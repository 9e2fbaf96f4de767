"""The agent's encoder of protobuf, compared with the library."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from agent.sinks.protobuf import PartialSuccess, export_request, export_response, log_record

_TEXT = st.text(st.characters(codec="utf-8"))
_TIME = st.integers(0, 2**64 - 1)


@given(
    st.dictionaries(_TEXT, _TEXT, max_size=3),
    st.lists(st.tuples(_TIME, _TIME, _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=3)), max_size=4),
)
def test_the_library_decodes_a_request(
    resource: dict[str, str], records: list[tuple[int, int, str, dict[str, str]]]
) -> None:
    encoded = [log_record(at, seen, 9, body.encode(), "name", attrs) for at, seen, body, attrs in records]
    parsed = ExportLogsServiceRequest.FromString(export_request(resource, "scope", "1", b"".join(encoded)))
    (logs,) = parsed.resource_logs
    assert {pair.key: pair.value.string_value for pair in logs.resource.attributes} == resource
    (scope,) = logs.scope_logs
    assert (scope.scope.name, scope.scope.version) == ("scope", "1")
    found = [
        (
            record.time_unix_nano,
            record.observed_time_unix_nano,
            record.body.string_value,
            {pair.key: pair.value.string_value for pair in record.attributes},
        )
        for record in scope.log_records
    ]
    assert found == records
    assert all((record.severity_number, record.event_name) == (9, "name") for record in scope.log_records)


@given(st.integers(0, 2**63 - 1), _TEXT)
def test_a_response_of_the_library_is_read(rejected: int, reason: str) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = reason
    assert export_response(response.SerializeToString()) == PartialSuccess(rejected, reason)


def test_an_empty_response_is_full_success() -> None:
    assert export_response(b"") == PartialSuccess()
    assert (
        export_response(b"\x10\x05\x19" + bytes(8) + b"\x25" + bytes(4)) == PartialSuccess()
    )  # unknown fields


@given(st.binary(max_size=40))
def test_bytes_that_are_read_are_a_message_of_the_library_too(content: bytes) -> None:
    """Any bytes are read, or are a ValueError; what is read has the number that the library reads."""
    try:
        read = export_response(content)
    except ValueError:
        return
    with suppress(DecodeError):  # the library checks more, such as UTF-8
        response = ExportLogsServiceResponse.FromString(content)
        assert read.rejected == response.partial_success.rejected_log_records


@pytest.mark.parametrize("content", [b"\x0a\x05ab", b"\x0b", b"\x08", b"\x08" + b"\xff" * 10, b"\x09\x01"])
def test_a_cut_message_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        export_response(content)
