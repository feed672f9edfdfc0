"""One small question to each server, in its own protocol and without its driver. Each raises OSError on failure."""

import socket
import struct
from typing import Final

TIMEOUT_S: Final = 2.0
_KAFKA_METADATA, _KAFKA_VERSION = 3, 1
_CQL_VERSION, _CQL_STARTUP, _CQL_READY, _CQL_QUERY, _CQL_RESULT = 4, 0x01, 0x02, 0x07, 0x08
_CQL_SKIP_METADATA: Final = 0x02
ONE: Final = 0x01
ALL: Final = 0x05


def kafka_brokers(host: str, port: int) -> int:
    """Return the number of brokers in the cluster that have registered and may serve (a Metadata request)."""
    request = struct.pack(">hhih8si", _KAFKA_METADATA, _KAFKA_VERSION, 1, 8, b"headrace", 0)
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        _correlation, brokers = struct.unpack(">ii", _read(connection, size)[:8])
    return int(brokers)


def cassandra_rows(host: str, port: int, query: str, consistency: int = ONE) -> int:
    """Return the number of rows that a CQL query gives, on its first page."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        startup = struct.pack(">hh11sh5s", 1, 11, b"CQL_VERSION", 5, b"3.0.0")
        if _ask_cassandra(connection, _CQL_STARTUP, startup)[0] != _CQL_READY:
            raise OSError(f"Cassandra on {host}:{port} is not ready")
        text = query.encode()
        body = struct.pack(f">i{len(text)}shB", len(text), text, consistency, _CQL_SKIP_METADATA)
        kind, answer = _ask_cassandra(connection, _CQL_QUERY, body)
    if kind != _CQL_RESULT:
        raise OSError(f"Cassandra on {host}:{port} answers {answer[6:].decode(errors='replace')}")
    _rows, _flags, _columns, rows = struct.unpack(">iiii", answer[:16])
    return int(rows)


def redis_says(host: str, port: int) -> str:
    """Return the answer to PING: 'PONG', or 'LOADING ...' while the data are read."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(256).decode(errors="replace").strip().lstrip("+-")


def _ask_cassandra(connection: socket.socket, opcode: int, body: bytes) -> tuple[int, bytes]:
    connection.sendall(struct.pack(">BBhBi", _CQL_VERSION, 0, 0, opcode, len(body)) + body)
    _version, _flags, _stream, kind, size = struct.unpack(">BBhBi", _read(connection, 9))
    return kind, _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the server closed the connection")
        parts += part
    return bytes(parts)
