"""A job as a process of its own, as whoever operates it sees it: its endpoint, its log, its end."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

HEADRACE = Path(sys.executable).with_name("headrace")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "error",
}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Running:
    """A job that goes on; its stderr lies in a file."""

    def __init__(self, folder, name, *options, **environment):
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [HEADRACE, "run", name, *map(str, options)],
                cwd=folder,
                env=ENVIRONMENT | environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def told(self):
        return self.log.read_text()

    def until(self, condition, within_s=120.0):
        """Wait until the condition holds; it is given this job."""
        deadline = time.monotonic() + within_s
        while not condition(self):
            assert time.monotonic() < deadline, self.told()
            assert self.process.poll() is None, self.told()
            time.sleep(0.05)
        return self

    @property
    def address(self):
        self.until(lambda job: "/metrics," in job.told())
        return re.search(r"http://(\S+)/metrics,", self.told())[1]

    def get(self, path):
        try:
            with OPENER.open(f"http://{self.address}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:  # it may have ended
            return 0, str(error)

    def samples(self):
        """{(name, *sorted labels): value}, as Prometheus' own parser reads it."""
        status, text = self.get("/metrics")
        assert status == 200, f"{text}\n{self.told()}"
        families = text_string_to_metric_families(text)
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    def terminate(self):
        """SIGTERM."""
        self.asked_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within_s=5.0):
        """Wait for its clean end; returns the seconds since SIGTERM."""
        assert self.process.wait(max(0.01, self.asked_s + within_s - time.monotonic())) == 0, self.told()
        assert "Traceback" not in self.told(), self.told()
        return time.monotonic() - self.asked_s

    def end(self):
        """SIGTERM; returns the seconds that it took."""
        self.terminate()
        return self.ended()

    def kill(self):
        """SIGKILL, where it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @staticmethod
    def run(folder, *arguments, **environment):
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            [HEADRACE, *arguments],
            cwd=folder,
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
