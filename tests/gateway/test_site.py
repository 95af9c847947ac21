import re

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client import CollectorRegistry

from gateway import bodies
from gateway.app import routes
from gateway.openapi import document
from gateway.schemas import DURATION, SCHEMAS
from gateway.tasks import CommitOutcome
from ratus import forms, model
from ratus.errors import BadRequest
from ratus.times import parse_duration
from tests.gateway.serving import Rest
from tests.gateway.stub_backend import StubBackend


def test_the_document_is_valid(rest: Rest) -> None:
    served = rest("GET", "/openapi.json").json
    assert served == document()
    assert served["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(served).validate()


def test_the_document_has_every_route_and_no_other() -> None:
    described = {
        (method.upper(), re.sub(r"{(\w+)}", r":\1", path))
        for path, operations in document()["paths"].items()
        for method in operations
    }
    served = {(route.method, route.path) for route in routes(StubBackend(), CollectorRegistry())}
    assert described == served


def test_operations_are_complete() -> None:
    paths = document()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    tags = {tag["name"] for tag in document()["tags"]}
    for path, methods in paths.items():
        for operation in methods.values():
            assert set(operation["tags"]) <= tags
            named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert "503" in operation["responses"]
            if path.startswith("/topics"):
                assert {"200", "400", "500"} <= set(operation["responses"])


def test_bodies_are_described_where_they_are_read() -> None:
    read = {(route.method, route.path) for route in routes(StubBackend(), CollectorRegistry()) if route.reads_body}
    described = {
        (method.upper(), re.sub(r"{(\w+)}", r":\1", path))
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    }
    assert read == described


@pytest.mark.parametrize(
    ("schema", "struct"),
    [
        ("Task", model.Task),
        ("TaskInput", forms.TaskBody),
        ("TaskInputs", bodies.TasksBody),
        ("Topic", model.Topic),
        ("PromiseInput", bodies.PromiseBody),
        ("ClaimInput", bodies.ClaimBody),
        ("ExtensionInput", bodies.ExtensionBody),
        ("Commit", bodies.CommitBody),
        ("CommitInput", bodies.CommitEntry),
        ("CommitInputs", bodies.CommitsBody),
        ("CommitOutcome", CommitOutcome),
    ],
)
def test_schemas_have_the_fields_of_the_structs(schema: str, struct: type[forms.TaskBody]) -> None:
    assert list(SCHEMAS[schema]["properties"]) == list(struct.__struct_encode_fields__)


def test_the_states_are_described() -> None:
    assert dict(zip(SCHEMAS["TaskState"]["x-enum-varnames"], SCHEMAS["TaskState"]["enum"], strict=True)) == {
        state.name: state.value for state in model.TaskState
    }


def test_the_user_interface_works_without_internet(rest: Rest) -> None:
    page = rest("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/static-offline-docs/")
        assert rest("GET", link).status == 200
    assert not re.search(r"https?://", page.body.decode())
    script = next(link for link in links if link.endswith(".js"))
    packed = rest("GET", script, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("file", ["nope", "", "..%2f__init__.py", "%00", "x" * 5000, "a/../../core.py", ".", "%2e%2e"])
def test_other_files_are_not_served(rest: Rest, file: str) -> None:
    reply = rest("GET", f"/static-offline-docs/{file}")
    assert (reply.status, reply.json) == (404, {"error": {"code": 404, "message": "not found"}})


def test_inputs_may_be_null_and_answers_are_not() -> None:
    validator = Draft202012Validator({"$ref": "#/components/schemas/TaskInput", "components": {"schemas": SCHEMAS}})
    for name in SCHEMAS["TaskInput"]["properties"]:
        assert validator.is_valid({name: None})
        assert validator.is_valid({name: ""}) == (name != "state")
    answers = Draft202012Validator({"$ref": "#/components/schemas/Task", "components": {"schemas": SCHEMAS}})
    task = {"_id": "a", "topic": "t", "state": 0, "nonce": "", "produced": "x", "scheduled": "x"}
    assert answers.is_valid(task)
    assert not answers.is_valid({**task, "consumer": None})


@pytest.mark.parametrize("text", ["", "0", "-1.5h", "+.5s", "1h30m", "1.s", "300ms", "1µs", "1μs", "-0"])
def test_a_duration_is_described(text: str) -> None:
    assert re.search(DURATION, text)
    assert text == "" or parse_duration(text) is not None


@pytest.mark.parametrize("text", ["1", "s", ".s", "1h ", "1d", "--1s", "1h0", "٣s", "00"])
def test_what_is_no_duration_is_not_described(text: str) -> None:
    assert not re.search(DURATION, text)
    with pytest.raises(BadRequest):
        parse_duration(text)
