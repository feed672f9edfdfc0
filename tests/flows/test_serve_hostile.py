"""What is sent to break the API: it answers with a problem, says no more than it must, and stays as it is."""

import json
import random
import resource
import string

import pytest
from served import NOW_MS, VALVE, fill, row, served

from headrace.pipelines.serve.contract import FILE
from headrace.pipelines.serve.problems import MEDIA_TYPE
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services

DESCRIBED = json.loads(FILE.read_text())
OPERATIONS = sorted((path, method) for path, item in DESCRIBED["paths"].items() for method in item)
SLOW = {"/v1/rejected/replay", "/v1/ask", "/v1/tasks/{task}/explanation"}
JSON, ARROW, NDJSON = "application/json", "application/vnd.apache.arrow.stream", "application/x-ndjson"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_services(read_settings(), lambda: NOW_MS, create=True) as services:
            fill(services)
            with served(services) as opened:
                yield opened


NAMES = [
    "valve",
    "pump",
    "nope",
    "..",
    "%2e%2e",
    "%00",
    "a%0d%0aX-Evil: 1",
    "<script>",
    "é",
    "'",
    "a" * 300,
    "%ff",
    "0",
]
VALUES = [*NAMES, "-1", "9" * 40, "1e999", "NaN", "1,2,3", "v1/e0/1", "null", "[]", "W10", "true", "", " ", "\ud800"]
GOOD = json.dumps(row(VALVE, "v1", 1)).encode()
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"\xff\xfe\x00",
    b"9" * 5_000,
    b'{"task": "valve", "obs": [[1, 2, 3]]}',
    b'{"task": "valve", "obs": [[1, 2]]}',
    b'{"task": "valve", "obs": [[1e999, 2, 3]]}',
    b'{"task": "\\ud800", "obs": 1, "reason": "\\ud800", "question": "\\ud800"}',
    b'{"reason": "", "rating": "sideways", "rules": [1], "question": 5, "to": 99999999999999999999}',
    b'{"reason": "why", "seen_ts": 1, "to": 7}',
    b'{"rules": ["action"]}',
    GOOD,
    b"[" + GOOD + b"]",
]


def mutated(rng, body):
    """A body as it is, or with some of its bytes changed, cut or repeated."""
    if rng.random() < 0.4 or not body:
        return body
    content, place = bytearray(body), rng.randrange(len(body))
    change = rng.randrange(3)
    if change == 0:
        content[place] = rng.randrange(256)
    elif change == 1:
        del content[place:]
    else:
        content[place:place] = content[: rng.randrange(len(body))]
    return bytes(content)


def request(rng):
    """A request for some operation, wrong in one way or another."""
    path, method = rng.choice([one for one in OPERATIONS if one[0] not in SLOW or rng.random() < 0.1])
    for part in ("task", "number", "report_id", "plot", "directive_id", "place"):
        path = path.replace(f"{{{part}}}", rng.choice(NAMES))
    known = [
        one["name"] for item in DESCRIBED["paths"].values() for op in item.values() for one in op.get("parameters", [])
    ]
    query = {rng.choice(known): rng.choice(VALUES[:-1]) for _ in range(rng.randrange(4))}
    headers = {"Content-Type": rng.choice([JSON, JSON, JSON, ARROW, NDJSON, "text/plain", "x" * 200])}
    if rng.random() < 0.2:
        headers[rng.choice(["If-None-Match", "Accept", "Authorization", "Cookie", "Origin", "Range"])] = rng.choice(
            ["*", ARROW, "Bearer x", "headrace=x", "a" * 3_000, '"' * 10, "bytes=0-1", "null"]
        )
    method = rng.choice(["get", "post", "put", "patch", "head", "options"]) if rng.random() < 0.1 else method
    path = path if rng.random() < 0.95 else "/" + "".join(rng.choices(string.printable[:90], k=20))
    return method.upper(), path, {"params": query, "headers": headers, "content": mutated(rng, rng.choice(BODIES))}


def attack(client, count, seed):
    """Send so many; no answer is a fault of the server's."""
    rng = random.Random(seed)
    client.cookies.clear()
    for _ in range(count):
        method, path, sent = request(rng)
        try:
            answer = client.request(method, f"http://localhost:8080{path}", **sent)
        except (ValueError, UnicodeError):  # what the client itself does not send
            continue
        assert answer.status_code < 500 or answer.status_code == 503, (method, path, sent, answer.text)
        if answer.status_code >= 400 and method != "HEAD" and path.startswith("/v1/"):
            assert answer.headers["content-type"] == MEDIA_TYPE, (method, path, sent, answer.text)
        assert "x-evil" not in answer.headers


def test_malformed_requests_are_no_fault_of_the_servers(client):
    attack(client, 1_000, seed=1)


@pytest.mark.long
def test_a_hundred_thousand_malformed_requests_leave_memory_as_it_was(client):
    attack(client, 5_000, seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attack(client, 100_000, seed=3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 65_536  # KiB


@pytest.mark.parametrize(
    "path",
    ["/static/../../pyproject.toml", "/static/%2e%2e/%2e%2e/app.py", "/static/..%2fapp.py", "/v1/tasks/..%2f..%2fetc"],
)
def test_no_file_is_given_out(client, path):
    answer = client.get(f"http://localhost:8080{path}")
    assert answer.status_code in {400, 404, 405, 422}
    assert "import" not in answer.text


def test_what_a_producer_names_is_data_and_never_markup(client):
    """As JSON, under headers that keep a browser from taking it for a page."""
    answer = client.get("/v1/tasks/valve/rejected")
    assert "<script>" in answer.text
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_body_is_bounded_whether_its_size_is_said_or_not(client):
    large = b" " * (9 << 20)
    assert client.post("/v1/transitions", content=large).status_code == 413
    parts = (large[: 1 << 20] for _ in range(9))
    assert client.post("/v1/transitions", content=parts).status_code == 413
    assert client.post("/v1/decide", content=b" " * (3 << 20)).status_code == 413
