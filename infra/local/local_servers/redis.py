"""Redis: the cache."""

from local_servers import install, probe
from local_servers.server import Server


class Redis(Server):
    """One Redis process, bounded to 256 MB."""

    name = "Redis"
    memory_mb = 256

    @property
    def url(self) -> str:
        """What HEADRACE_CACHE is set to."""
        return f"redis://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """Write redis.conf and return the command."""
        config = self.configure(
            "redis/redis.conf", host=self.host, port=self.port, data=self.data, memory_mb=self.memory_mb
        )
        return [install.redis(), str(config)]

    def answers(self) -> bool:
        """Whether PING gives PONG."""
        return probe.redis_says(self.host, self.port) == "PONG"
