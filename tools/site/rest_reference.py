"""The reference of the REST API, made from the OpenAPI document that the server has at /openapi.json."""

from typing import Any

from gateway.openapi import document

INTRODUCTION = """# REST API

Made from the document that every server has at `/openapi.json`; at `/` there is a page to try it. All paths but
these two are served under `/v1` as well as under `/`.

Ids and topics are percent-decoded once, after the path was split: `a%2Fb` is one id. A topic may be left empty
where it is of no use: `GET /v1/topics//tasks/{id}`. A body is one JSON object, whatever its `Content-Type`; `null`
counts as absent.

Durations are written as in Go (`1h30m`, `300ms`), times as in RFC 3339.
[Which calls are safe to repeat](repeats.md) is a page of its own.
"""


def page() -> str:
    """The page, in Markdown."""
    openapi = document()
    parts = [INTRODUCTION]
    for path, methods in openapi["paths"].items():
        parts += [_operation(openapi, f"{method.upper()} {path}", spec) for method, spec in methods.items()]
    parts.append("## Schemas\n")
    parts += [_schema(name, schema) for name, schema in openapi["components"]["schemas"].items()]
    return "\n".join(parts)


def _operation(openapi: dict[str, Any], name: str, spec: dict[str, Any]) -> str:
    text = f"## {name}\n\n{spec['summary']}.\n"
    if "description" in spec:
        text += f"\n{spec['description']}\n"
    if parameters := [parameter for parameter in spec.get("parameters", ()) if parameter["in"] != "path"]:
        rows = [f"| `{one['name']}` | {_type(one['schema'])} | {_cell(one['description'])} |" for one in parameters]
        text += "\n| in the query | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    if body := spec.get("requestBody"):
        optional = "" if body.get("required") else ", which may be left out"
        text += f"\nBody: {_content(body['content'])}{optional}.\n"
    rows = [
        f"| {status} | {_cell(answer['description'])} | {_content(answer.get('content', {}))} |"
        for status, answer in spec["responses"].items()
    ]
    return text + "\n| status | meaning | answer |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = f"### {name}\n\n{schema.get('description', '')}\n"
    if "enum" in schema:
        text += "\nValues: " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".\n"
    if properties := schema.get("properties"):
        rows = [f"| `{key}` | {_type(of)} | {_cell(of.get('description', ''))} |" for key, of in properties.items()]
        text += "\n| field | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    return text


def _content(content: dict[str, Any]) -> str:
    kinds = []
    for media, of in content.items():
        kinds.append(_type(of["schema"]) if media == "application/json" and "schema" in of else f"`{media}`")
    return ", ".join(kinds)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(map(_type, choices))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    kind = schema.get("type", "any JSON")
    return " or ".join(kind) if isinstance(kind, list) else kind


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
