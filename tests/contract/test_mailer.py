"""What every mailer does: the message arrives as it was written."""

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from contract_faults import file_size_limit
from contract_outbox import Outbox

from headrace.schemas.errors import StorageError
from headrace.sinks.files.mail import FileMailer

TO = ["team@example.org"]


def test_a_message_arrives_as_it_was_written(outbox: Outbox, message: EmailMessage) -> None:
    outbox.mailer.send(message, "daily-2026-01-01", TO)
    (data,) = outbox.arrived()
    arrived = email.message_from_bytes(data, policy=email.policy.default)
    assert (arrived["Subject"], arrived["To"]) == (message["Subject"], message["To"])
    texts = [part.get_content().splitlines() for part in arrived.walk() if not part.is_multipart()]
    assert texts == [["Das Ergebnis ist größer."], ["<p>größer</p>"]]


def test_each_digest_arrives(outbox: Outbox, message: EmailMessage) -> None:
    for digest_id in ("a", "b", "c"):
        outbox.mailer.send(message, digest_id, TO)
    assert len(outbox.arrived()) == 3


def test_a_file_holds_what_goes_over_the_wire(tmp_path: Path, message: EmailMessage) -> None:
    FileMailer(tmp_path).send(message, "daily", TO)
    data = (tmp_path / "daily.eml").read_bytes()
    assert data.isascii()
    assert data.count(b"\n") == data.count(b"\r\n") > 10
    assert [path.name for path in tmp_path.iterdir()] == ["daily.eml"]


def test_the_first_file_of_a_digest_stays(tmp_path: Path, message: EmailMessage) -> None:
    FileMailer(tmp_path).send(message, "daily", TO)
    before = (tmp_path / "daily.eml").read_bytes()
    message.replace_header("Subject", "another")
    FileMailer(tmp_path).send(message, "daily", TO)
    assert (tmp_path / "daily.eml").read_bytes() == before


def test_two_that_send_at_once_leave_the_first(
    tmp_path: Path, message: EmailMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "daily.eml").write_bytes(b"first")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    FileMailer(tmp_path).send(message, "daily", TO)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


@pytest.mark.parametrize("digest_id", ["../out", "a/b", "daily 2026-01-01T07:00+02:00", ".."])
def test_no_digest_leads_out_of_the_folder(tmp_path: Path, message: EmailMessage, digest_id: str) -> None:
    mailer = FileMailer(tmp_path / "mail")
    mailer.send(message, digest_id, TO)
    assert [path.parent for path in tmp_path.rglob("*.eml")] == [tmp_path / "mail"]
    assert mailer.path(digest_id).exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, message: EmailMessage) -> None:
    message.add_attachment(bytes(1 << 18), maintype="image", subtype="png")
    with file_size_limit(1 << 16), pytest.raises(StorageError, match=r"daily\.eml"):
        FileMailer(tmp_path).send(message, "daily", TO)
    assert list(tmp_path.iterdir()) == []
