"""Get what the servers need: packages from apt, jars from Maven, each once."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from local_servers.server import CONFIG, ServerError

HOME: Final = CONFIG.parent.parent.parent / ".local"
"""Everything that is made here: jars, data, logs, settings. Ignored by git."""
JAVA_HOMES: Final = Path("/usr/lib/jvm")


@cache
def java() -> str:
    """Return the path of the Java that versions.env names (flags and class archives are made for it)."""
    version = versions()["JAVA_VERSION"]
    path = _java(version)
    if path is None:
        _install(f"openjdk-{version}-jre-headless")
        path = _java(version)
    if path is None:
        raise ServerError(f"Java {version} is neither `java` nor in {JAVA_HOMES}")
    return path


def redis() -> str:
    """Return the path of redis-server."""
    return _program("redis-server", package="redis-server")


def chromium() -> str:
    """Return the path of the browser that drives the console."""
    return _program("chromium", package="chromium")


def jars(server: str) -> Path:
    """Return the folder of a server's jars, which are downloaded if they are missing."""
    settings = versions()
    folder = HOME / "jars" / f"{server}-{settings[f'{server.upper()}_VERSION']}"
    if not folder.exists():
        with lock(folder.parent, server) as held:
            if not folder.exists():
                _download(server, folder, settings, held)
    return folder


def everything() -> None:
    """Get all that is missing; raises ServerError where something can't be had."""
    java()
    redis()
    chromium()
    for server in ("kafka", "cassandra"):
        jars(server)


@cache
def versions() -> dict[str, str]:
    """Return the contents of versions.env."""
    lines = (CONFIG / "versions.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _download(server: str, folder: Path, settings: dict[str, str], held: int) -> None:
    sys.stderr.write(f"downloading {folder.name} (once)\n")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    maven = [_program("mvn", package="maven"), "-q", "-B", "-C", "-f", str(CONFIG / server / "pom.xml")]
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(  # noqa: S603 the command is ours
        [*maven, *goal], env=os.environ | settings, capture_output=True, text=True, check=False, pass_fds=(held,)
    )
    if done.returncode:
        raise ServerError(f"Maven can't get the jars of {server}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    partial.rename(folder)


def _java(version: str) -> str | None:
    installed = sorted(JAVA_HOMES.glob(f"java-{version}-*/bin/java"))
    if installed:
        return str(installed[0])
    path = shutil.which("java")
    if path is None:
        return None
    says = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)  # noqa: S603 it is Java
    return path if f'version "{version}.' in says.stderr else None


def _program(name: str, *, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        _install(package)
        path = shutil.which(name)
    if path is None:
        raise ServerError(f"{name} is missing: apt-get install {package}")
    return path


def _install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServerError(f"a package is missing: apt-get install {package}")
    sys.stderr.write(f"installing {package} (once)\n")
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with lock(HOME, "apt"):
        for step in (["apt-get", "update", "-qq"], command):
            done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                raise ServerError(f"{' '.join(step)} failed: {done.stderr[-2000:]}")


@contextmanager
def lock(folder: Path, name: str = "lock") -> Iterator[int]:
    """Let one process at a time work in a folder; gives the lock's file.

    A child that does the work gets it by `pass_fds`: where it outlives us (kill -9), the lock is its own until it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
