"""The configuration file: what it may say, and what it is refused for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from witness_service.config import Configuration, ConfigurationError, load

SECRET = "SENTINEL-secret"
TEXT = f"""\
[service]
registry_id = "{"ab" * 32}"

[database]
dsn = "host=/run/postgresql dbname=witness password={SECRET}"

[[tokens]]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "witness"
serial = "0123456789abcdef"
pin_file = "/etc/witness-service/pin"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with nothing but what must be said."""
    path = tmp_path / "witness.toml"
    path.write_text(TEXT)
    return path


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Return what replaces the first match of a pattern."""
    return lambda text: re.sub(old, lambda _: new, text, count=1)


def added(text: str) -> Callable[[str], str]:
    """Return what adds lines at the end."""
    return lambda before: before + text


def test_little_has_to_be_said(file: Path) -> None:
    """What is left out has a safe default: production, this machine only, links witnessed."""
    configuration = load(file)
    assert configuration.service.environment == "production"
    assert configuration.service.listen.startswith("127.0.0.1:")
    assert configuration.link_rule("anything") == "witnessed"
    assert configuration.limits.min_deadline_seconds > 0


def test_secrets_show_in_no_representation(file: Path) -> None:
    """A configuration that is printed or logged by mistake does not give the connection string away."""
    configuration = load(file)
    assert SECRET in configuration.database.connection_string()
    assert SECRET not in repr(configuration) + str(configuration) + configuration.model_dump_json()


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "unknown key of service": (
        replaced(r"\[service\]", f'[service]\nlistne = "{SECRET}"'),
        "service.listne: unknown key",
    ),
    "unknown key of database": (
        replaced(r"\[database\]", f'[database]\npassword = "{SECRET}"'),
        "database.password: unknown",
    ),
    "unknown key of a token": (
        replaced(r"\[\[tokens\]\]", f'[[tokens]]\npin = "{SECRET}"'),
        "tokens.0.pin: unknown key",
    ),
    "unknown key of limits": (added("[limits]\nevents = 1\n"), "limits.events: unknown key"),
    "unknown key of streams": (added('[[streams]]\nname = "x"\n'), "streams.0.name: unknown key"),
    "unknown section": (added(f'[metrics]\nx = "{SECRET}"\n'), "metrics: unknown key"),
    "two mistakes": (added("[metrics]\n[tracing]\n"), "metrics: unknown key; tracing: unknown key"),
    "no database": (replaced(r"(?s)\[database\].*?\n\n", ""), "database: field required"),
    "no token": (replaced(r"(?s)\[\[tokens\]\].*", ""), "tokens: field required"),
    "an empty list of tokens": (
        lambda text: "tokens = []\n" + text.partition("[[tokens]]")[0],
        "tokens: list should have",
    ),
    "an empty serial": (replaced('"0123456789abcdef"', '""'), "tokens.0.serial: "),
    "no registry id": (
        replaced("registry_id.*", ""),
        "service.registry_id: expected the id that `witness genesis store` printed",
    ),
    "a short registry id": (replaced("ab" * 32, "ab" * 31), "service.registry_id: "),
    "an upper-case registry id": (replaced("ab" * 32, "AB" * 32), "service.registry_id: "),
    "a number as text": (added('[limits]\nbatch_events = "many"\n'), "limits.batch_events: "),
    "a number below its range": (added("[limits]\nbatch_events = 0\n"), "limits.batch_events: "),
    "a number above its range": (added("[limits]\nbatch_events = 513\n"), "limits.batch_events: "),
    "not a number": (added("[limits]\nproposal_seconds = nan\n"), "limits.proposal_seconds: "),
    "endless": (added("[limits]\ndefault_deadline_seconds = inf\n"), "limits.default_deadline_seconds: "),
    "a room that a message does not fit in": (added("[limits]\nevents_in_flight = 511\n"), "limits.events_in_flight: "),
    "an unknown environment": (
        replaced(r"\[service\]", '[service]\nenvironment = "staging"'),
        "service.environment: input should be 'production' or 'development'",
    ),
    "an unknown link rule": (added('[[streams]]\nlink = "any"\n'), "streams.0.link: "),
    "an interval of nothing": (added("[cosigning]\npublish_seconds = 0.0\n"), "cosigning.publish_seconds: "),
    "unknown key of cosigning": (added(f'[cosigning]\nurl = "{SECRET}"\n'), "cosigning.url: unknown key"),
    **{
        f"address {address!r}": (
            added(f'[cosigning]\nurls = {{ alpha = "{address}" }}\n'),
            "cosigning.urls.alpha: expected an address that starts with http:// or https://",
        )
        for address in ("", "alpha.example", "ftp://alpha.example", "https://", f"https://me:{SECRET}@alpha.example")
    },
    "timestamps without roots": (
        added('[timestamps]\nurl = "https://tsa.example"\n'),
        "timestamps: expected both url and roots_file",
    ),
    "no TOML": (added("=\n"), "expected TOML"),
    "twice the same key": (added('pin_file = "x"\n'), "expected TOML"),
    **{
        f"listen {listen!r}": (
            replaced(r"\[service\]", f'[service]\nlisten = "{listen}"'),
            "service.listen: expected HOST:PORT with a port from 0 to 65535",
        )
        for listen in (
            "",
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:http",
            ":0",
        )
    },
}


def test_cosigning_needs_no_words(file: Path) -> None:
    """Who cosigns is the registry's policy, so there is nothing to be said; and no authority is asked for the time."""
    configuration = load(file)
    assert configuration.cosigning.publish_seconds <= 60
    assert configuration.cosigning.heartbeat_seconds == 600
    assert configuration.timestamps.url is None


def test_roots_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    """The error names key and file."""
    missing = tmp_path / "roots.pem"
    file.write_text(TEXT + f'[timestamps]\nurl = "https://tsa.example"\nroots_file = "{missing}"\n')
    with pytest.raises(ConfigurationError, match=re.escape(f"[timestamps] roots_file: cannot read {missing}")):
        load(file).timestamps.roots_pem()


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_of_its_form_is_named(file: Path, case: str) -> None:
    """The error is one line with file and key, and without the value: it may be a secret."""
    change, expected = WRONG[case]
    file.write_text(change(TEXT))
    assert file.read_text() != TEXT
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert SECRET not in message
    # A traceback shows what an exception came from.
    assert SECRET not in repr(caught.value.__cause__)


def test_bytes_that_are_no_text(file: Path) -> None:
    """A file in another encoding is no TOML."""
    file.write_bytes(TEXT.encode() + b"# \xff\n")
    with pytest.raises(ConfigurationError, match="expected TOML"):
        load(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder in its place are named."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=f"cannot read {re.escape(str(path))}: "):
            load(path)


@pytest.mark.parametrize("listen", ["0.0.0.0:7233", "[::1]:0", "localhost:65535"])
def test_addresses_to_listen_on(file: Path, listen: str) -> None:
    """Names, IPv4 and IPv6 in brackets, each with its port."""
    file.write_text(TEXT.replace("[service]", f'[service]\nlisten = "{listen}"'))
    assert load(file).service.listen == listen


# -- the connection string ------------------------------------------------------------------------------------------


def with_database(file: Path, lines: str) -> Configuration:
    file.write_text(re.sub("dsn = .*", lines, TEXT))
    return load(file)


def test_a_connection_string_in_a_file_of_its_own(file: Path, tmp_path: Path) -> None:
    """The end of the line does not count."""
    (tmp_path / "dsn").write_text("host=x\n")
    configuration = with_database(file, f'dsn_file = "{tmp_path}/dsn"')
    assert configuration.database.connection_string() == "host=x"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "expected either dsn or dsn_file"),
        ('dsn = "host=x"\ndsn_file = "/nowhere"', "expected either dsn or dsn_file"),
        ('dsn_file = "/nowhere/dsn"', "cannot read /nowhere/dsn"),
        ('dsn_file = "/proc/self/mem"', "cannot read /proc/self/mem"),
    ],
)
def test_no_connection_string(file: Path, lines: str, expected: str) -> None:
    """Neither, both, or a file that cannot be read: an error of the configuration."""
    configuration = with_database(file, lines)
    with pytest.raises(ConfigurationError, match=expected):
        configuration.database.connection_string()


def test_a_connection_string_that_is_no_text(file: Path, tmp_path: Path) -> None:
    """A file that is not UTF-8 is an error of the configuration too, and none of its bytes are shown."""
    (tmp_path / "dsn").write_bytes(b"host=x password=\xff" + SECRET.encode())
    configuration = with_database(file, f'dsn_file = "{tmp_path}/dsn"')
    with pytest.raises(ConfigurationError) as caught:
        configuration.database.connection_string()
    assert SECRET not in str(caught.value)


# -- link rules -----------------------------------------------------------------------------------------------------


def test_the_first_pattern_that_fits_counts(file: Path) -> None:
    """Patterns are tried in their order; a stream that none fits is witnessed."""
    file.write_text(
        TEXT
        + '[[streams]]\npattern = "a/special"\nlink = "none"\n'
        + '[[streams]]\npattern = "a/*"\nlink = "recorded"\n'
        + '[[streams]]\npattern = "A/*"\nlink = "none"\n'
    )
    rule = load(file).link_rule
    assert [rule(name) for name in ("a/special", "a/x", "a/x/y", "A/x", "a", "b")] == [
        "none",
        "recorded",
        "recorded",
        "none",
        "witnessed",
        "witnessed",
    ]
