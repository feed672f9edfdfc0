"""Clients that connect and say nothing, or little: they keep no place from others."""

import socket
import threading
import time

import pytest
import uvicorn

from headrace.pipelines.serve.connection import Connection

WAIT_S = 0.4


async def _answer(scope, receive, send):
    if scope["path"] == "/whole":
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _answer,
        http=Connection,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=WAIT_S,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def lasted_s(port, said, drip):
    """How long the connection of a client lasts that goes on dripping: its answers, and seconds."""
    heard, began_s = b"", time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as client:
        client.sendall(said)
        while time.monotonic() - began_s < 10 * WAIT_S:
            try:
                part = client.recv(4_096)
                heard += part
                if not part:
                    break
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                client.sendall(drip)
            except OSError:
                break
    return heard, time.monotonic() - began_s


@pytest.mark.parametrize(
    ("said", "drip", "answers"),
    [
        (b"", b"", 0),
        (b"GET / HTTP/1.1\r\nX: ", b"a", 0),
        (b"GET / HTTP/1.1\r\n\r\n", b"", 1),
        (b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", b"a", 1),
        (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nX", b"a", 2),
    ],
    ids=["nothing", "a dripping head", "no second head", "a body that is not awaited", "requests at a time"],
)
def test_a_client_that_sends_no_head_is_left(port, said, drip, answers):
    heard, took_s = lasted_s(port, said, drip)
    assert heard.count(b"200 OK") == answers
    assert took_s < 9 * WAIT_S


def test_a_request_in_hand_may_take_longer(port):
    """The bound on a body's time is another's: here its end comes after the wait for a head would be over."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"POST /whole HTTP/1.1\r\nContent-Length: 2\r\n\r\na")
        time.sleep(1.5 * WAIT_S)
        client.sendall(b"a")
        assert b"200 OK" in client.recv(4_096)
