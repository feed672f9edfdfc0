"""Fine-tuning by a service, against a loopback server that speaks OpenAI's protocol for files and jobs."""

import json
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
from openai_server import KEY, Handler

from headrace.pipelines.tuning.by_service import PATIENCE, tuned_by_service
from headrace.pipelines.tuning.exported import export
from headrace.schemas.errors import LanguageModelError, SettingsError, UnavailableError
from headrace.schemas.url import parse_url


class Service(Handler):
    def do_POST(self):  # noqa: N802 as http.server calls it
        body = self.rfile.read(int(self.headers["content-length"]))
        state = self.server.state
        if self.headers["authorization"] != f"Bearer {KEY}":
            return self._send(401, {"error": {"message": f"no such key {KEY}"}})
        if self.path == "/v1/files":
            assert b'name="purpose"\r\n\r\nfine-tune' in body
            state["files"].append(body)
            about = {"object": "file", "bytes": len(body), "created_at": 0, "filename": "f", "status": "processed"}
            return self._send(200, {"id": f"file-{len(state['files'])}", "purpose": "fine-tune", **about})
        assert self.path == "/v1/fine_tuning/jobs"
        state["asked"] = json.loads(body)
        return self._send(200, self.job("validating_files"))

    def do_GET(self):  # noqa: N802
        assert self.path == "/v1/fine_tuning/jobs/ftjob-1"
        self.server.state["looks"] += 1
        status = next(self.server.state["statuses"])
        if isinstance(status, int):
            return self._send(status, {"error": {"message": "busy"}})
        return self._send(200, self.job(status))

    def job(self, status):
        return {
            "id": "ftjob-1",
            "object": "fine_tuning.job",
            "created_at": 0,
            "error": {"code": "invalid_training_file", "message": "x", "param": None} if status == "failed" else None,
            "fine_tuned_model": "ft:small:1" if status == "succeeded" else None,
            "finished_at": None,
            "hyperparameters": {},
            "model": "small",
            "organization_id": "o",
            "result_files": [],
            "seed": 3,
            "status": status,
            "trained_tokens": None,
            "training_file": "file-1",
            "validation_file": "file-2",
        }


@contextmanager
def service(*statuses):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.state = {"files": [], "asked": None, "looks": 0, "statuses": iter(statuses)}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tuned(server, data, job=None, key=KEY):
    told = []
    url = parse_url(f"openai:small?base_url=http://127.0.0.1:{server.server_address[1]}/v1")
    environ = {"OPENAI_API_KEY": key}
    try:
        return tuned_by_service(url, data, job, 3, lambda *one: told.append(one), every_s=0.01, environ=environ), told
    finally:
        server.state["told"] = told


@pytest.fixture
def data(tmp_path):
    export([], tmp_path, 4, 0)
    return tmp_path


def test_both_files_go_up_and_the_tuned_model_comes_back(data):
    with service("queued", "running", "running", 503, "running", "succeeded") as server:
        model, told = tuned(server, data)
    assert model == "ft:small:1"
    assert [status for _, status in told] == ["validating_files", "queued", "running", "succeeded"]
    assert server.state["asked"] == {
        "model": "small",
        "training_file": "file-1",
        "validation_file": "file-2",
        "seed": 3,
    }
    for name, body in zip(("train.jsonl", "held_out.jsonl"), server.state["files"], strict=True):
        assert (data / name).read_bytes() in body


def test_a_job_that_was_begun_is_waited_for(tmp_path):
    with service("running", "succeeded") as server:
        assert tuned(server, tmp_path, job="ftjob-1")[0] == "ft:small:1"
    assert server.state["files"] == []


def test_a_job_that_fails_says_why(data):
    with service("failed") as server, pytest.raises(LanguageModelError, match="ftjob-1 failed invalid_training_file"):
        tuned(server, data)


def test_a_service_that_stays_away_is_given_up(data):
    with service(*[503] * PATIENCE) as server, pytest.raises(UnavailableError, match="503"):
        tuned(server, data)
    assert server.state["looks"] == PATIENCE


def test_a_key_that_is_refused_is_not_repeated(data):
    with service() as server, pytest.raises(LanguageModelError) as raised:
        tuned(server, data, key="sk-wrong")
    assert "401" in str(raised.value)
    assert "sk-" not in str(raised.value)


def test_without_a_data_set_nothing_is_asked(tmp_path):
    with service() as server, pytest.raises(SettingsError, match="headrace narrator export"):
        tuned(server, tmp_path)
    assert server.state["told"] == []
