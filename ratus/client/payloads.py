"""Payloads of tasks and the Python values that they stand for."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw

P = TypeVar("P")


class PayloadError(ValueError):
    """A payload is not of the type that it should have, or a value has no JSON."""


def encode(value: Any) -> bytes | None:
    """The JSON of a value, None for None.

    A value is what `msgspec` encodes (dict, list, text, numbers, `Struct`, dataclass, datetime, …) or a pydantic
    model; JSON that you have already goes in as `msgspec.Raw`. Raises PayloadError.
    """
    return None if value is None else _encode(value, None)


def encode_sorted(value: Any) -> bytes:
    """The JSON of a value with the keys in order. Raises PayloadError."""
    return _encode(value, "sorted")


def decode(payload: Raw | bytes | None, type: type[P] | Any = Any) -> P:
    """The value of a payload as any type that `msgspec` or pydantic knows; None for no payload. Raises PayloadError."""
    return decoder(type)(payload)  # type: ignore[no-any-return]  # both libraries return Any


def decoder(type: Any) -> Callable[[Raw | bytes | None], Any]:
    """A function that decodes payloads as a type."""
    validate = _pydantic(type) or msgspec.json.Decoder(type).decode

    def decode(payload: Raw | bytes | None) -> Any:
        if payload is None and type is Any:
            return None
        try:
            return validate(b"null" if payload is None else bytes(payload))
        except ValueError as error:  # of both libraries, and of validators that users write
            raise PayloadError(str(error)) from error

    return decode


def _pydantic(type: Any) -> Callable[[bytes], Any] | None:
    if not hasattr(type, "__pydantic_validator__"):
        return None
    from pydantic import TypeAdapter  # whoever has such a type has it loaded

    return TypeAdapter(type).validate_json


def _encode(value: Any, order: Literal["sorted"] | None) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_dump, order=order)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadError(f"a value without JSON: {error}") from error


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON")
