import pytest

from gateway.paging import collect
from ratus.errors import BadRequest
from ratus.model import Page, PageRequest
from tests.gateway.serving import Rest


class Source:
    """A list of numbers, given out at most `cut` at a time."""

    def __init__(self, size: int, cut: int) -> None:
        self._size, self._cut = size, cut
        self.requests: list[PageRequest] = []

    async def __call__(self, request: PageRequest) -> Page[int]:
        self.requests.append(request)
        start = int(request.token) if request.token else request.offset
        end = min(self._size, start + min(request.limit or 10, self._cut))
        return Page(list(range(start, end)), str(end) if end < self._size else "")


@pytest.mark.parametrize("cut", [1, 3, 100])
@pytest.mark.parametrize(
    ("limit", "offset", "expected"),
    [(0, 0, range(10)), (4, 0, range(4)), (7, 20, range(20, 25)), (5, 20, range(20, 25)), (3, 25, range(0))],
)
async def test_pages_are_whole(cut: int, limit: int, offset: int, expected: range) -> None:
    source = Source(25, cut)
    assert await collect(source, PageRequest(limit=limit, offset=offset)) == list(expected)


async def test_a_whole_page_takes_one_call() -> None:
    source = Source(25, 100)
    await collect(source, PageRequest(limit=5, offset=2))
    assert source.requests == [PageRequest(limit=5, offset=2)]


async def test_an_error_is_passed_on() -> None:
    async def fail(request: PageRequest) -> Page[int]:
        raise BadRequest("no")

    with pytest.raises(BadRequest):
        await collect(fail, PageRequest())


def test_a_list_larger_than_one_answer_of_the_backend(any_rest: Rest, topic: str) -> None:
    payload = "x" * 60_000
    for number in range(70):
        body = f'{{"payload":"{payload}"}}'
        assert any_rest("POST", f"/topics/{topic}/tasks/{topic}-{number:03}", body).status == 201
    listed = any_rest("GET", f"/topics/{topic}/tasks?limit=100&offset=1").json["data"]
    assert [task["_id"] for task in listed] == [f"{topic}-{number:03}" for number in range(1, 70)]
    assert any_rest("DELETE", f"/topics/{topic}").json == {"deleted": 70}


def test_pages_of_all_kinds(rest: Rest, topic: str) -> None:
    data = ",".join(f'{{"_id":"{topic}-{number}","topic":"{topic}{number}"}}' for number in range(3))
    assert rest("POST", "/topics//tasks", f'{{"data":[{data}]}}').json == {"created": 3, "updated": 0}
    names = []
    for offset in range(10_000):
        page = rest("GET", f"/topics?limit=1&offset={offset}").json["data"]
        if not page:
            break
        names += [of["name"] for of in page if of["name"].startswith(topic)]
    assert names == [f"{topic}{number}" for number in range(3)]
    everything = rest("GET", "/topics//tasks?limit=100").json["data"]
    assert len(everything) >= 3
