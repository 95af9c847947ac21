"""The reference of the gRPC API, made from the .proto files and their comments."""

import importlib.resources
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
INTRODUCTION = """# gRPC API

Package `ratus.v1`, made from [the `.proto` files](../proto/ratus/v1/). Times are `google.protobuf.Timestamp`,
durations `google.protobuf.Duration`, and payloads JSON text in UTF-8. The server has reflection and
`grpc.health.v1.Health`.

Errors are a `google.rpc.Status` with a `google.rpc.ErrorInfo`, whose reasons are those of
[`ErrorReason`](#errorreason). [Which calls are safe to repeat](repeats.md) is a page of its own.
"""
# Numbers of fields in descriptors, of which the paths of comments are made.
MESSAGES, ENUMS, SERVICES, FIELDS, VALUES, METHODS = 4, 5, 6, 2, 2, 2
SCALARS = {value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()}


def files() -> list[FileDescriptorProto]:
    """The descriptors of our files, with the comments."""
    names = sorted(path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as image:
        includes = [ROOT / "proto", importlib.resources.files(grpc_tools) / "_proto", *_google()]
        options = ["--include_source_info", "-o", image.name]
        if protoc.main(["protoc", *(f"-I{path}" for path in includes), *options, *names]):
            raise RuntimeError("protoc has failed")
        found = FileDescriptorSet.FromString(Path(image.name).read_bytes())
    return list(found.file)


def _google() -> Iterator[Path]:
    """Where google/rpc/status.proto is."""
    import google.rpc

    yield from (Path(path).parents[1] for path in google.rpc.__path__)


def page() -> str:
    """The page, in Markdown."""
    found = files()
    parts = [INTRODUCTION]
    for file in found:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        parts += [_service(service, (SERVICES, i), comments) for i, service in enumerate(file.service)]
    parts.append("## Messages\n")
    for file in found:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        parts += [_message(message, (MESSAGES, i), comments) for i, message in enumerate(file.message_type)]
        parts += [_enum(enum, (ENUMS, i), comments) for i, enum in enumerate(file.enum_type)]
    return "\n".join(parts)


Path_ = tuple[int, ...]
Comments = dict[Path_, str]


def _service(service: ServiceDescriptorProto, path: Path_, comments: Comments) -> str:
    rows = []
    for i, method in enumerate(service.method):
        asks = f"{'stream ' if method.client_streaming else ''}{_link(method.input_type)}"
        answers = f"{'stream ' if method.server_streaming else ''}{_link(method.output_type)}"
        rows.append(f"| `{method.name}` | {_line(comments[(*path, METHODS, i)])} | {asks} | {answers} |")
    head = "| call | what it does | request | answer |\n| --- | --- | --- | --- |"
    return f"## {service.name}\n\n{comments[path]}\n\n{head}\n" + "\n".join(rows) + "\n"


def _message(message: DescriptorProto, path: Path_, comments: Comments) -> str:
    text = f"### {message.name}\n\n{comments[path]}\n"
    if message.field:
        rows = [
            f"| `{field.name}` | {_type(field)} | {_line(comments[(*path, FIELDS, i)])} |"
            for i, field in enumerate(message.field)
        ]
        text += "\n| field | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    for i, oneof in enumerate(message.oneof_decl):
        names = ", ".join(
            f"`{field.name}`" for field in message.field if field.HasField("oneof_index") and field.oneof_index == i
        )
        text += f"\nOne of {names} is set (`{oneof.name}`).\n"
    return text


def _enum(enum: EnumDescriptorProto, path: Path_, comments: Comments) -> str:
    rows = [
        f"| `{value.name}` | {value.number} | {_line(comments[(*path, VALUES, i)])} |"
        for i, value in enumerate(enum.value)
    ]
    head = "| name | number | |\n| --- | --- | --- |"
    return f"### {enum.name}\n\n{comments[path]}\n\n{head}\n" + "\n".join(rows) + "\n"


def _type(field: FieldDescriptorProto) -> str:
    kind = _link(field.type_name) if field.type_name else f"`{SCALARS[field.type]}`"
    return f"list of {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _link(type_name: str) -> str:
    name = type_name.removeprefix(".ratus.v1.")
    return f"`{name.lstrip('.')}`" if name == type_name else f"[`{name}`](#{name.lower()})"


def _line(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")
