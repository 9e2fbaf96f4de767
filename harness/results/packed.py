"""Rows of results.json that are kept as compressed JSON and decoded at each use.

A run of 1,000 cells with 100 tests each has three million assertions. As objects they take four gigabytes,
packed a hundred megabytes. Rows are validated before they are packed, so that decoding cannot fail.
"""

from __future__ import annotations

import functools
import types
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints, overload

import lz4.block
import pydantic_core
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

Row = TypeVar("Row", bound=BaseModel)


class Rows(Sequence[Row]):
    """A packed tuple; `failed` is how many of its rows have a false `ok`."""

    __slots__ = ("_data", "_kind", "_size", "failed")

    def __init__(self, kind: type[Row], rows: Sequence[Row]) -> None:
        self._kind, self._size = kind, len(rows)
        self._data = _packed(rows)
        self.failed = failed(rows)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self.unpacked()[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.unpacked())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows) and self._data == other._data:
            return True
        return isinstance(other, Sequence) and self.unpacked() == list(other)

    def __repr__(self) -> str:
        return repr(self.unpacked())

    def unpacked(self) -> list[Row]:
        """Return the rows, decoded."""
        if not self._data:
            return []
        rows: list[Row] = _adapter(list, self._kind).validate_json(lz4.block.decompress(self._data))
        return rows

    def plain(self) -> list[dict[str, Any]]:
        """Return the rows as JSON has them."""
        return _unpacked(self._data) if self._data else []


class Table(Mapping[str, Row]):
    """A packed dictionary, whose keys are not packed."""

    __slots__ = ("_data", "_keys", "_kind")

    def __init__(self, kind: type[Row], rows: Mapping[str, Row]) -> None:
        self._kind, self._keys = kind, tuple(rows)
        self._data = _packed(rows)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __getitem__(self, key: str) -> Row:
        return self.unpacked()[key]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Table) and self._data == other._data:
            return True
        return isinstance(other, Mapping) and self.unpacked() == dict(other)

    def __repr__(self) -> str:
        return repr(self.unpacked())

    def items(self) -> ItemsView[str, Row]:
        """Return the rows with their keys; they are decoded once."""
        return self.unpacked().items()

    def unpacked(self) -> dict[str, Row]:
        """Return the rows by key, decoded."""
        if not self._data:
            return {}
        rows: dict[str, Row] = _adapter(dict, str, self._kind).validate_json(lz4.block.decompress(self._data))
        return rows

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return the rows as JSON has them."""
        return _unpacked(self._data) if self._data else {}


class Packed:
    """Marks a field of a model, a `Sequence[Row]` or a `Mapping[str, Row]`, whose rows are packed.

    The JSON is that of a list or a dictionary of rows.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        *key, kind = get_args(source)
        container = Table if key else Rows
        row = _plain_schema(kind, handler)
        plain = (
            core_schema.dict_schema(core_schema.str_schema(), row) if key else core_schema.list_schema(row)
        )
        pack = functools.partial(container, kind)

        def validate(value: Any, validate_rows: core_schema.ValidatorFunctionWrapHandler) -> Any:
            return value if isinstance(value, container) else pack(validate_rows(value))

        def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
            if info.mode != "json":
                return value
            return (value if isinstance(value, container) else pack(value)).plain()  # a default is not packed

        return core_schema.json_or_python_schema(
            core_schema.no_info_after_validator_function(pack, plain),
            core_schema.no_info_wrap_validator_function(validate, handler(source)),
            serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema["python_schema"]["schema"])


def failed(rows: Sequence[Any]) -> int:
    """Return how many rows have a false `ok`, for packed rows without decoding them."""
    if isinstance(rows, Rows):
        return rows.failed
    return sum(
        (row.get("ok") if isinstance(row, dict) else getattr(row, "ok", None)) is False for row in rows
    )


def plain(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """Return a field's rows as JSON has them: models of packed rows take three times as long."""
    return rows.plain() if isinstance(rows, Table) else {key: row.model_dump() for key, row in rows.items()}


def _plain_schema(kind: type[BaseModel], handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    """Return the schema of a row that stays a dictionary, which takes half the time of a model."""
    hints = get_type_hints(kind, include_extras=True)
    return core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(
                _plain_schema(hint, handler)
                if isinstance(hint := hints[name], type) and issubclass(hint, BaseModel)
                else handler.generate_schema(hint),
                required=field.is_required(),
            )
            for name, field in kind.model_fields.items()
        },
        extra_behavior="allow",
    )


@functools.cache
def _adapter(container: type, *arguments: type) -> TypeAdapter[Any]:
    rows: Any = types.GenericAlias(container, arguments)
    return TypeAdapter(rows)


def _packed(rows: Any) -> bytes:
    return lz4.block.compress(pydantic_core.to_json(rows)) if rows else b""


def _unpacked(data: bytes) -> Any:
    return pydantic_core.from_json(lz4.block.decompress(data))
