"""The API's contract as a file, schemas/contracts/openapi.json.

    python -m headrace.pipelines.serve.contract

writes it anew.
"""

import json
from typing import Final

from headrace.pipelines.serve.app import routed
from headrace.schemas.contract_files import FOLDER

FILE: Final = FOLDER / "openapi.json"


def text() -> str:
    """Return the description as the file has it."""
    return json.dumps(routed().openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
