"""`python -m local_servers up [--nodes 3] | status | down [--purge] | install`: what the Makefile calls."""

import argparse
import sys
import time

from local_servers import install
from local_servers.local import Local, describe
from local_servers.server import ServerError


def main() -> int:
    """Run one command; 0 ok, 1 failure, 2 usage."""
    options = _parser().parse_args()
    local = Local(say=_say)
    try:
        if options.command == "up":
            _up(local, options.nodes)
        elif options.command == "down":
            local.down(purge=options.purge)
        elif options.command == "install":
            install.everything()
        else:
            return _status(local)
    except (ServerError, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("stopped half-way: `make up` goes on from here, `make down` ends it")
        return 1
    return 0


def _up(local: Local, nodes: int | None) -> None:
    started = time.monotonic()
    settings = local.up(nodes)
    _say(f"ready in {time.monotonic() - started:.1f} s; to use it:  set -a; . {local.env}; set +a")
    for name, value in settings.items():
        sys.stdout.write(f"{name}={value}\n")


def _status(local: Local) -> int:
    states = local.status()
    for server, healthy in states:
        sys.stdout.write(f"{describe(server)}: {'answers' if healthy else 'does not answer'}\n")
    if not states:
        sys.stdout.write("nothing is up: `make up`\n")
    return 0 if states and all(healthy for _, healthy in states) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_servers", description="Kafka, Cassandra and Redis on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what does not run, and wait until it answers")
    up.add_argument("--nodes", type=int, choices=(1, 3), help="Cassandra nodes (1)")
    down = commands.add_parser("down", help="stop everything cleanly")
    down.add_argument("--purge", action="store_true", help="drop the data too")
    commands.add_parser("status", help="what runs, and whether it answers")
    commands.add_parser("install", help="get what the servers need, and start none")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
