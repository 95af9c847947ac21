import pytest

from gateway.answers import Answer
from gateway.calls import Call
from gateway.paths import Route, Router, split
from ratus.errors import BadRequest
from tests.gateway.serving import Rest


async def _handler(call: Call) -> Answer:
    return Answer(200)


ROUTER = Router(
    Route(method, path, _handler)
    for method, path in (
        ("GET", "/topics"),
        ("GET", "/topics/:topic"),
        ("DELETE", "/topics/:topic"),
        ("POST", "/topics/:topic/tasks"),
        ("GET", "/topics/:topic/tasks/:id"),
        ("GET", "/topics/:topic/promises/:id"),
        ("GET", "/livez"),
    )
)


@pytest.mark.parametrize(
    ("path", "endpoint", "topic", "id"),
    [
        (b"/topics", "/topics", "", ""),
        (b"/v1/topics", "/v1/topics", "", ""),
        (b"/topics/v1", "/topics/:topic", "v1", ""),
        (b"/v1/topics/topics", "/v1/topics/:topic", "topics", ""),
        (b"/topics/a/tasks", "/topics/:topic/tasks", "a", ""),
        (b"/topics//tasks", "/topics/:topic/tasks", "", ""),
        (b"/v1/topics//tasks/x", "/v1/topics/:topic/tasks/:id", "", "x"),
        (b"/topics/a%2Fb/tasks/c%2fd", "/topics/:topic/tasks/:id", "a/b", "c/d"),
        (b"/topics/a%252Fb/tasks/c+d", "/topics/:topic/tasks/:id", "a%2Fb", "c+d"),
        (b"/topics/%2F/tasks/%2F%2F", "/topics/:topic/tasks/:id", "/", "//"),
        (b"/topics/tasks/promises/tasks", "/topics/:topic/promises/:id", "tasks", "tasks"),
        (b"/topics/t/tasks/%C5%BE%F0%9F%90%80", "/topics/:topic/tasks/:id", "t", "\u017e\U0001f400"),
        (b"/topics/./tasks/..", "/topics/:topic/tasks/:id", ".", ".."),
        (b"/v1/livez", "/v1/livez", "", ""),
    ],
)
def test_paths_lead_to_resources(path: bytes, endpoint: str, topic: str, id: str) -> None:
    match = ROUTER.match(path)
    assert match is not None
    assert (match.resource.endpoint, match.topic, match.id) == (endpoint, topic, id)


NOWHERE = b"""
    * / /v1 /v1/ /v2/topics /nope //topics /v1/v1/topics /topics/t/nope /topics/t/tasks/x/y /livez/x /topics%2Ft
    /v1//topics /topics/t/ /topics/t/tasks/x/
"""


@pytest.mark.parametrize("path", [b"", *NOWHERE.split()])
def test_other_paths_lead_nowhere(path: bytes) -> None:
    assert ROUTER.match(path) is None


def test_methods_of_a_resource() -> None:
    match = ROUTER.match(b"/topics/t")
    assert match is not None
    assert sorted(match.resource.routes) == ["DELETE", "GET", "HEAD"]


@pytest.mark.parametrize("path", [b"/%ff", b"/topics/%C3", b"/topics/%ED%A0%80", b"/topics/\xff", b"/topics/%C0%AF"])
def test_segments_must_be_utf8(path: bytes) -> None:
    with pytest.raises(BadRequest, match="not UTF-8"):
        split(path)


@pytest.mark.parametrize("path", [b"/%", b"/a%2", b"/%zz", b"/%2gtopics"])
def test_escapes_must_be_whole(path: bytes) -> None:
    with pytest.raises(BadRequest, match="percent-encoding"):
        split(path)


def test_a_slash_in_an_id_comes_back(rest: Rest, topic: str) -> None:
    path = f"/v1/topics/{topic}%2Fx/tasks/{topic}%2Fa%252Fb"
    assert rest("POST", path, '{"payload":1}').status == 201
    assert rest("GET", f"/topics//tasks/{topic}%2fa%252Fb").json["_id"] == f"{topic}/a%2Fb"
    assert rest("GET", f"/v1/topics/{topic}%2Fx").json == {"name": f"{topic}/x", "count": 1}
    assert rest("GET", f"/v1/topics/{topic}/x").status == 404
    assert rest("GET", f"/v1/topics//tasks/{topic}/a%2Fb").status == 404


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("segment", ["%ff", "%C3", "%ED%A0%80", "%", "%zz"])
def test_a_bad_segment_is_a_bad_request(rest: Rest, prefix: str, segment: str) -> None:
    for path in (f"/topics/{segment}", f"/topics/t/tasks/{segment}", f"/topics/{segment}/promises"):
        for method in ("GET", "DELETE", "POST"):
            reply = rest(method, prefix + path, None if method == "GET" else "{}")
            assert reply.status == 400
            assert reply.json["error"]["code"] == 400
            assert reply.json["error"]["message"].startswith("bad request: ")


@pytest.mark.parametrize("name", ["", "/v1"])
def test_a_trailing_slash_is_redirected(rest: Rest, topic: str, name: str) -> None:
    for path, query in (
        ("/topics", ""),
        (f"/topics/{topic}", ""),
        (f"/topics/{topic}/tasks", "?limit=1&offset=2"),
        ("/topics//tasks", ""),
        (f"/topics/{topic}/tasks/a%2Fb", "?x=%20"),
        ("/livez", ""),
    ):
        for method in ("GET", "HEAD"):
            reply = rest(method, f"{name}{path}/{query}")
            assert (reply.status, reply.headers["location"], reply.body) == (301, f"{name}{path}{query}", b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope/"),
        ("GET", "//example.org/"),
        ("GET", "/v1/"),
        ("POST", "/v1/topics/t/tasks/"),
        ("PUT", "/v1/topics/t/promises/"),
        ("DELETE", "/v1/topics/"),
        ("PATCH", "/v1/topics/t/tasks/"),
        ("POST", "/v1/topics"),
        ("PATCH", "/v1/topics/t/promises/x"),
        ("DELETE", "/v1/livez"),
        ("OPTIONS", "/v1/topics"),
        ("TRACE", "/v1/topics"),
        ("PROPFIND", "/v1/topics"),
        ("GET", "/v1/topics/t/tasks/x/y"),
        ("GET", "/docs"),
        ("GET", "/redoc"),
        ("POST", "/"),
        ("DELETE", "/openapi.json"),
    ],
)
def test_what_is_not_served_is_not_found(rest: Rest, method: str, path: str) -> None:
    reply = rest(method, path)
    assert reply.status == 404
    assert reply.json == {"error": {"code": 404, "message": "not found"}}
    assert reply.headers["content-type"] == "application/json"
