"""Messages with random values in their fields, and bytes that are nearly messages."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NAMES = ["", "t", "t", "fuzz", "a/b", "\0", "x" * 1025, "é\U0001f40e", "$x", "canary "]
PAYLOADS = [
    *(b"", b"{}", b"null", b"1e400", b"[" * 200 + b"]" * 200, b"[" * 50_000, b"9" * 400, b'"\\ud800"', b"\xff", b"{"),
    *(b'{"a\\u0000":1}', b'{"a": ' * 10_000, b'"' + b"x" * 100_000 + b'"'),
]
NUMBERS = [0, 0, 1, 1, 2, 3, 4, 5, -1, 100, 101, 10_001, 2**31 - 1, -(2**31)]
LONG_NUMBERS = [*NUMBERS, 2**63 - 1, -(2**63), 253_402_300_799, -62_135_596_800, 1_900_000_000, 10**9]
MOST = 3  # of repeated fields; and of levels below, where a message could hold itself


def message(kind: type[Message], dice: random.Random, level: int = 0) -> Message:
    """A message of a kind, some of whose fields are set."""
    made = kind()
    for field in made.DESCRIPTOR.fields:
        if dice.random() < 0.3 or level > MOST:
            continue
        if field.is_repeated:
            for _ in range(dice.randint(0, MOST)):
                if field.message_type is not None:
                    value = message(getattr(made, field.name).add().__class__, dice, level + 1)
                    getattr(made, field.name)[-1].CopyFrom(value)
                else:
                    getattr(made, field.name).append(_value(field, dice))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(message(getattr(made, field.name).__class__, dice, level + 1))
        else:
            setattr(made, field.name, _value(field, dice))
    return made


def _value(field: FieldDescriptor, dice: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return dice.choice(PAYLOADS if field.type == FieldDescriptor.TYPE_BYTES else NAMES)
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case FieldDescriptor.CPPTYPE_INT64:
            return dice.choice(LONG_NUMBERS)
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice(NUMBERS)
    raise NotImplementedError(field.full_name)


def spoilt(data: bytes, dice: random.Random) -> bytes:
    """Bits flipped, an end cut off, wrong wire types and groups without an end put in, or nothing like it at all."""
    match dice.randrange(6):
        case 0 if data:
            whole = bytearray(data)
            for _ in range(dice.randint(1, 5)):
                whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
            return bytes(whole)
        case 1:
            return data[: dice.randrange(len(data) + 1)]
        case 2:
            return bytes([dice.randrange(1, 16) << 3 | dice.randrange(8)]) + data
        case 3:
            return b"\x0b" * dice.randint(1, 2000) + data
        case 4:
            return dice.randbytes(dice.randint(1, 200))
    return data + b"\xff" * 11
