"""Watchdog: `watchdog.py PARENT FOLDER` waits until its parent has ended, then kills and removes what it left."""

import os
import sys
import time
from pathlib import Path

from local_servers.folders import clear


def main(parent: int, folder: Path) -> None:
    """Watch the parent; a folder that is gone needs no watching."""
    while os.getppid() == parent and folder.exists():
        time.sleep(0.2)
    clear(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
