"""The server does what its OpenAPI document says, whatever it is asked: statuses, content types, schemas, refusals.

schemathesis makes the requests out of the document itself, so that both are compared without anybody's help.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import hypothesis
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz.watching import LONG, REQUESTS, SEED, watched

EXAMPLES = max(15, REQUESTS // 100)  # of each operation, beside those that cover the document
PHASES = "coverage,fuzzing,stateful" if LONG else "coverage,fuzzing"
STREAM = "streamTasks"  # has no end, so that schemathesis would wait for it
_COUNT = re.compile(r"(\d+) generated")


def test_the_server_does_what_the_document_says(tmp_path: Path) -> None:
    with watched(tmp_path, path="/readyz") as server:
        command = [
            *(Path(sys.executable).with_name("st"), "--config-file", Path(__file__).with_name("schemathesis.toml")),
            *("--no-color", "run", f"{server.server.url}/openapi.json", "--url", f"{server.server.url}/v1"),
            *("--exclude-operation-id", STREAM, "--mode", "all", "--phases", PHASES),
            *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--continue-on-failure"),
            *("--suppress-health-check", "all"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5000:]
    count = _COUNT.search(done.stdout)
    assert count is not None
    print(f"OpenAPI: {count[1]} requests of schemathesis")
    assert int(count[1]) > 100


def test_a_stream_does_what_the_document_says(tmp_path: Path) -> None:
    seen: Counter[int] = Counter()
    with watched(tmp_path, path="/readyz") as server, httpx.Client(timeout=60) as client:
        document = schemathesis.openapi.from_url(f"{server.server.url}/openapi.json")
        operation = document["/topics/{topic}/stream"]["GET"]

        @hypothesis.seed(SEED)
        @hypothesis.settings(max_examples=2 * EXAMPLES, deadline=None, database=None)
        @hypothesis.given(
            operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)
        )
        def listen(case: Case) -> None:
            asked = case.as_transport_kwargs(base_url=f"{server.server.url}/v1")
            with client.stream(asked["method"], asked["url"], params=asked.get("params")) as answer:
                seen[answer.status_code] += 1
                described = operation.definition.raw["responses"][str(answer.status_code)]["content"]
                assert answer.headers["content-type"] in described
                if answer.status_code != 200:
                    answer.read()
                    case.validate_response(answer, excluded_checks=[positive_data_acceptance])

        listen()
    print(f"OpenAPI: streams, answers {dict(sorted(seen.items()))}")
    assert {200, 400} <= seen.keys()
