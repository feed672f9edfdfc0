"""A server that is a Java program: jars from Maven, a heap, and a class archive that halves its start."""

from pathlib import Path
from typing import Final

from local_servers import install
from local_servers.server import CONFIG, Server

LEAST_HEAP_MB: Final = 128
"""What the heap starts with: an idle server leaves the memory to others."""


class JavaServer(Server):
    """A Java server, run from the jars of `infra/local/PACKAGE/pom.xml` with the flags beside it.

    The first clean stop leaves an archive of the loaded classes beside the jars (class data sharing); from then on the
    start takes half of the time. `quick` does without the optimising compiler: a third less CPU to start, slower under
    sustained load; right for short tests, wrong for measurements.
    """

    package: str
    heap_mb = 512
    quick = False
    java_flags: tuple[str, ...] = ()

    def stop(self) -> None:
        """Stop cleanly, and keep the class archive if this run has recorded one."""
        recorded = self._recorded
        super().stop()
        if recorded.exists():
            recorded.replace(self._archive)

    def java(self, main: str, *options: str, heap_mb: int | None = None) -> list[str]:
        """Return the command that runs a main class with the server's flags."""
        heap = [f"-Xms{LEAST_HEAP_MB}m", f"-Xmx{heap_mb or self.heap_mb}m"]
        flags = [f"@{CONFIG / self.package / 'jvm.options'}", *heap, *self.java_flags]
        if self.quick:
            flags.append("-XX:TieredStopAtLevel=1")
        if self._archive.exists():
            flags.append(f"-XX:SharedArchiveFile={self._archive}")
        return [install.java(), *flags, "-cp", f"{self.jars}/*", main, *options]

    def record(self, command: list[str]) -> list[str]:
        """Return the server's command, made to record its classes if nobody has yet."""
        if self._archive.exists():
            return command
        return [command[0], f"-XX:ArchiveClassesAtExit={self._recorded}", *command[1:]]

    @property
    def jars(self) -> Path:
        """The folder of the jars, downloaded when they are first needed."""
        return install.jars(self.package)

    @property
    def _archive(self) -> Path:
        return self.jars / "classes.jsa"

    @property
    def _recorded(self) -> Path:
        return self.folder / "classes.jsa"
