"""Mail into files: what would be sent lies in a folder, one .eml per digest, for any mail program to open."""

import os
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final
from urllib.parse import quote

from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import Verdict
from headrace.sinks.files.policies import storage_errors, sync_folder, write_durably

_SEVEN_BIT: Final = SMTP.clone(cte_type="7bit")


class FileMailer(Backend):
    """The port `Mailer`: writes `<folder>/<digest_id>.eml`, whole or not at all."""

    idempotent = True

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
        """Write the message as RFC 5322 has it (ASCII alone, lines end in CRLF); the first of a digest_id stays.

        Raises StorageError.
        """
        self._write(message, digest_id)
        return dict.fromkeys(recipients, Verdict("accepted"))

    def _write(self, message: EmailMessage, digest_id: str) -> None:
        path = self.path(digest_id)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with storage_errors(path):
            if path.exists():
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                write_durably(temporary, message.as_bytes(policy=_SEVEN_BIT))
                os.link(temporary, path)  # unlike a rename, it never replaces what another process sent
            except FileExistsError:
                return
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(self._folder)

    def path(self, digest_id: str) -> Path:
        """Return the file of a digest; what can't stand in a file name is percent-encoded."""
        return self._folder / f"{quote(digest_id, safe=' @+=,')}.eml"


ADAPTER: Final = Adapter(lambda url, *_: FileMailer(url.path), local=True)
