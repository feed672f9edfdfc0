"""Settings and wiring: URLs, variables, files, masking, unknown keys; the layout."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from headrace.pipelines.report.addresses import parse_page_link
from headrace.pipelines.settings import DEFAULTS, read_settings
from headrace.pipelines.wiring import open_services
from headrace.schemas.errors import LayoutMismatchError, SettingsError, UnknownTopicError
from headrace.schemas.url import masked, parse_url
from headrace.sinks.memory import MemoryCache
from headrace.sinks.sqlite.index import SqliteIndex


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:rel/log.db", "rel/log.db"),
        ("sqlite:.headrace/log.db", ".headrace/log.db"),
        ("sqlite:/abs/log.db", "/abs/log.db"),
        ("sqlite:///abs/log.db", "/abs/log.db"),
        ("sqlite:////abs/log.db", "/abs/log.db"),
        ("sqlite://localhost/abs/log.db", "/abs/log.db"),
        ("sqlite:///a%20b/c%23d", "/a b/c#d"),
        ("memory:", ""),
        ("memory://", ""),
    ],
)
def test_paths_are_absolute_after_slashes_and_relative_else(url, path):
    assert parse_url(url).path == path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("smtp://me:s3cret@host", "smtp://me:***@host"),
        ("smtp://me:s3@cr/e?t@host", "smtp://me:***@host"),
        ("smtp://me:s3cret#x@host", "smtp://me:***@host"),
        ("kafka://h:9092?sasl.password=s3cret&acks=all", "kafka://h:9092?sasl.password=***&acks=all"),
        ("openai:model?api_key=s3cret", "openai:model?api_key=***"),
        ("smtp://host:25?from=a@b.c", "smtp://host:25?from=a@b.c"),
        ("sqlite:///a/b", "sqlite:///a/b"),
    ],
)
def test_secrets_are_masked(url, shown):
    assert masked(url) == shown


def test_no_representation_shows_a_password(caplog):
    settings = read_settings({"log": "kafak://me:s3cret@host/x?ssl.key.password=s3cret"})
    with caplog.at_level(logging.INFO):
        logging.getLogger("headrace").info("%s %r", settings, settings.log)
    for text in (
        repr(settings),
        str(settings),
        f"{settings.log}",
        repr([getattr(settings, name) for name in DEFAULTS]),
        caplog.text,
    ):
        assert "s3cret" not in text
    assert "s3cret" in settings.log.text
    with pytest.raises(SettingsError) as raised, open_services(settings):
        pass
    assert "s3cret" not in str(raised.value)


def test_defaults_lie_under_one_folder():
    settings = read_settings()
    assert (settings.log.path, settings.index.path) == (".headrace/log.db", ".headrace/index.db")
    assert (settings.policies.path, settings.mail.path) == (".headrace/policies", ".headrace/mail")
    assert (settings.cache.scheme, settings.narrator.scheme) == ("memory", "template")


def test_an_option_beats_its_variable(monkeypatch):
    monkeypatch.setenv("HEADRACE_LOG", "sqlite:variable.db")
    assert read_settings().log.path == "variable.db"
    assert read_settings({"log": None}).log.path == "variable.db"
    assert read_settings({"log": "sqlite:option.db"}).log.path == "option.db"


def test_a_variable_may_name_a_file(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("sqlite:from-file.db\n")
    monkeypatch.setenv("HEADRACE_LOG_FILE", str(tmp_path / "secret"))
    assert read_settings().log.path == "from-file.db"
    monkeypatch.setenv("HEADRACE_LOG", "sqlite:x.db")
    with pytest.raises(SettingsError, match="both HEADRACE_LOG and HEADRACE_LOG_FILE"):
        read_settings()


def test_a_file_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setenv("HEADRACE_LOG_FILE", "/nowhere/secret")
    with pytest.raises(SettingsError, match="HEADRACE_LOG_FILE: /nowhere/secret can't be read"):
        read_settings()


def test_an_unknown_variable_lists_the_known_ones(monkeypatch):
    monkeypatch.setenv("HEADRACE_LGO", "sqlite:x.db")
    with pytest.raises(SettingsError, match=r"HEADRACE_LGO; did you mean HEADRACE_LOG\? known: .*HEADRACE_NARRATOR"):
        read_settings()


def test_an_empty_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("HEADRACE_INDEX", "")
    with pytest.raises(SettingsError, match="HEADRACE_INDEX is empty"):
        read_settings()


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(SettingsError, match="unknown setting 'lg'; did you mean log"):
        read_settings({"lg": "x"})


@pytest.mark.parametrize("url", ["log.db", "/tmp/log.db", "http://[bad", "sqlite:a?b", "sqlite:a#b"])
def test_what_is_no_url_is_an_error(url):
    with pytest.raises(SettingsError):
        read_settings({"log": url})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log": "pulsar://host"}, "--log pulsar://host: unknown scheme 'pulsar'; known: sqlite"),
        ({"log": "sqlit:x"}, "did you mean sqlite"),
        ({"cache": "memory:?byts=1"}, "unknown option 'byts'; did you mean bytes"),
        ({"log": "sqlite:x?mode=ro"}, "unknown option 'mode'; it has none"),
        ({"log": "sqlite://rel/x"}, "write sqlite:relative/path or sqlite:///absolute/path"),
        ({"index": "sqlite:"}, "write sqlite:relative/path"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_before_anything_is_opened(options, message, tmp_path):
    with pytest.raises(SettingsError) as raised, open_services(read_settings(options), create=True):
        pass
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "url", "module", "package"),
    [
        ("log", "kafka://host", "confluent_kafka", "confluent-kafka>="),
        ("index", "cassandra://host/keyspace", "cassandra", "cassandra-driver>="),
        ("policies", "cassandra://host/keyspace", "cassandra", "cassandra-driver>="),
        ("cache", "redis://host", "redis", "redis"),
        ("cache", "rediss://host", "redis", "redis"),
        ("advisor", "openai:model?base_url=http://127.0.0.1:1", "openai", "openai>="),
    ],
)
def test_a_missing_driver_says_what_to_install(part, url, module, package):
    code = f"import sys; sys.modules[{module!r}] = None; from headrace.pipelines import settings, wiring"
    code += f"; wiring.Services(settings.read_settings({{{part!r}: {url!r}}})).{part}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    scheme = url.partition(":")[0]
    assert f"SettingsError: a {part} at {scheme}: needs a driver: pip install '{package}" in ended.stderr


def test_the_cache_takes_its_size():
    with open_services(read_settings({"cache": "memory://?bytes=1000"})) as services:
        assert isinstance(services.cache, MemoryCache)
        assert services.cache.max_bytes == 1000
    with (
        open_services(read_settings({"cache": "memory:?bytes=many"})) as services,
        pytest.raises(SettingsError, match="bytes is 'many'"),
    ):
        _ = services.cache


def test_nothing_is_made_in_a_wrong_folder(tmp_path):
    with open_services(read_settings()) as services, pytest.raises(SettingsError, match="headrace init"):
        _ = services.layout
    assert list(tmp_path.iterdir()) == []


def test_initialising_again_is_a_no_op_and_other_values_are_an_error():
    with open_services(read_settings(), create=True) as services:
        first = services.initialise(partitions=2, segment=64)
        assert services.initialise(partitions=2, segment=64) == first
        assert services.initialise() == first
        assert services.layout == first
        assert services.log.topic("mails").partitions == services.log.topic("tasks").partitions == 1
        assert services.log.topic("windows").partitions == 2
        with pytest.raises(LayoutMismatchError, match="segment 64, 128 was asked for"):
            services.initialise(segment=128)
        with pytest.raises(LayoutMismatchError, match="has 2 partitions, 3 were asked for"):
            services.initialise(partitions=3)


def test_an_index_of_another_log_is_refused():
    with open_services(read_settings(), create=True) as services:
        stored = services.initialise()
    other = read_settings({"log": "sqlite:other.db"})
    with open_services(other, create=True) as services:
        with pytest.raises(UnknownTopicError):
            _ = services.layout
        with pytest.raises(LayoutMismatchError, match="has no topics yet"):
            services.initialise()
        services.log.create("transitions", 4)
        with pytest.raises(LayoutMismatchError, match=stored.log):
            _ = services.layout
        with pytest.raises(LayoutMismatchError, match=stored.log):
            services.initialise()


def test_an_index_of_other_rules_is_refused():
    with open_services(read_settings(), create=True) as services:
        wanted = services.initialise()
    old = SqliteIndex("old.db")
    old.layout(msgspec.structs.replace(wanted, rules_version=0))
    old.close()
    with (
        open_services(read_settings({"index": "sqlite:old.db"})) as services,
        pytest.raises(LayoutMismatchError, match="rules_version 0"),
    ):
        _ = services.layout


def test_only_what_is_used_is_opened_and_it_is_closed():
    with open_services(read_settings(), create=True) as services:
        services.initialise()
    with open_services(read_settings({"index": "sqlite:none/such.db"})) as services:
        log = services.log
        assert log.topic("tasks").partitions == 1
    with pytest.raises(Exception, match="closed"):
        log.bounds("tasks", 0)


def test_recipients_of_digests_are_checked_when_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings({}).digest_to == ("team@localhost",)
    monkeypatch.setenv("HEADRACE_DIGEST_TO", '"Ops, night" <ops@example.org>, boss@example.org')
    assert read_settings({}).digest_to == ('"Ops, night" <ops@example.org>', "boss@example.org")
    assert read_settings({"digest_to": ("a@example.org",)}).digest_to == ("a@example.org",), "an option beats it"
    for wrong in ("nobody", "a@example.org,", "a@example.org b@example.org"):
        monkeypatch.setenv("HEADRACE_DIGEST_TO", wrong)
        with pytest.raises(SettingsError, match="is not an e-mail address"):
            read_settings({})


@pytest.mark.parametrize(
    ("link", "right"),
    [
        ("", True),
        ("https://example.org/reports/{report_id}.html", True),
        ("http://localhost:8000/?id={report_id}", True),
        ("https://example.org/reports", False),
        ("example.org/{report_id}", False),
        ("https://{report_id}/", False),
        ("https://example.org/{report_id}/{task}", False),
        ("javascript:{report_id}", False),
    ],
)
def test_a_link_names_the_place_of_the_report(link: str, right: bool) -> None:
    if right:
        assert parse_page_link(link) == link
    else:
        with pytest.raises(SettingsError, match="is no page of a report"):
            parse_page_link(link)
