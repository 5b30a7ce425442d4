"""The configuration of a service: one TOML file, in which an unknown key is an error."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

LinkRule = Literal["witnessed", "recorded", "none"]


def _host_and_port(value: str) -> str:
    # gRPC takes a missing port for 443 and the rest of a division for one that is too large.
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise PydanticCustomError("listen", "expected HOST:PORT with a port from 0 to 65535, got something else")
    return value


Address = Annotated[str, AfterValidator(_host_and_port)]
RegistryId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ConfigurationError(Exception):
    """The configuration file is not of its form; the message names the file, the key and what was expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServiceSection(_Section):
    """[service]: what this instance is and where it listens."""

    listen: Address = "127.0.0.1:7233"
    environment: Literal["production", "development"] = "production"
    registry_id: RegistryId = ""
    drain_seconds: float = Field(default=30.0, gt=0, le=600)


class DatabaseSection(_Section):
    """[database]: how to reach PostgreSQL; the connection string in the file, or in a file of its own."""

    dsn: SecretStr | None = None
    dsn_file: Path | None = None
    max_connections: int = Field(default=8, ge=3, le=64)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60)

    def connection_string(self) -> str:
        """Return the connection string; raises ConfigurationError when none can be had."""
        if (self.dsn is None) == (self.dsn_file is None):
            raise ConfigurationError("[database]: expected either dsn or dsn_file, got both or neither")
        if self.dsn is not None:
            return self.dsn.get_secret_value()
        assert self.dsn_file is not None
        try:
            return self.dsn_file.read_text().strip()
        except OSError as error:
            raise ConfigurationError(f"[database] dsn_file: cannot read {self.dsn_file}: {error.strerror}") from error
        except UnicodeDecodeError:  # not `from`: it holds the bytes
            raise ConfigurationError(f"[database] dsn_file: expected UTF-8 in {self.dsn_file}") from None


class TokenSection(_Section):
    """[[tokens]]: one PKCS#11 token and how many signer processes use it."""

    module: Path
    label: str
    serial: str = Field(min_length=1)
    pin_file: Path
    processes: int = Field(default=2, ge=1, le=64)
    sign_timeout_seconds: float = Field(default=5.0, gt=0, le=600)
    environment: dict[str, str] = {}


class StreamSection(_Section):
    """[[streams]]: the link rule of the streams whose name fits a pattern; the first that fits counts."""

    pattern: str = "*"
    link: LinkRule = "witnessed"


class LimitsSection(_Section):
    """[limits]: what one instance takes on."""

    events_in_flight: int = Field(default=8192, ge=512)
    batch_events: int = Field(default=256, ge=1, le=512)
    batches_in_flight: int = Field(default=4, ge=1, le=64)
    stream_window_events: int = Field(default=2048, ge=512)
    message_bytes: int = Field(default=1_048_576, ge=65_536)
    default_deadline_seconds: float = Field(default=10.0, gt=0)
    min_deadline_seconds: float = Field(default=0.01, ge=0)
    proposal_seconds: float = Field(default=3600.0, gt=0)


def _web_address(value: str) -> str:
    scheme, _, rest = value.partition("://")
    host = rest.partition("/")[0]
    if scheme not in ("http", "https") or not host or "@" in host or not value.isascii() or value.split() != [value]:
        expected = "expected an address that starts with http:// or https:// and holds no password, got something else"
        raise PydanticCustomError("url", expected)
    return value


WebAddress = Annotated[str, AfterValidator(_web_address)]


class CosigningSection(_Section):
    """[cosigning]: how the cosigners of the registry's policy are asked.

    urls: submission prefixes by the cosigner's name in the policy, in place of those in the policy. ignore: names of
    cosigners that are not asked, whatever the policy says.
    """

    publish_seconds: float = Field(default=10.0, gt=0, le=3600)
    heartbeat_seconds: float = Field(default=600.0, gt=0, le=86_400)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    urls: dict[str, WebAddress] = {}
    ignore: list[str] = []


class TimestampsSection(_Section):
    """[timestamps]: the timestamp authority that is asked for tokens over checkpoints; none without a url."""

    url: WebAddress | None = None
    roots_file: Path | None = None
    interval_seconds: float = Field(default=60.0, ge=0, le=86_400)
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)

    @model_validator(mode="after")
    def _has_roots(self) -> TimestampsSection:
        if (self.url is None) != (self.roots_file is None):
            raise PydanticCustomError("timestamps", "expected both url and roots_file, got one of them")
        return self

    def roots_pem(self) -> bytes:
        """Return the certificates that may have issued the authority's, in PEM; raises ConfigurationError."""
        assert self.roots_file is not None
        try:
            return self.roots_file.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"[timestamps] roots_file: cannot read {self.roots_file}: {error.strerror}"
            ) from error


class Configuration(_Section):
    """Everything `witness serve` needs to know."""

    service: ServiceSection
    database: DatabaseSection
    tokens: list[TokenSection] = Field(min_length=1)
    streams: list[StreamSection] = []
    limits: LimitsSection = LimitsSection()
    cosigning: CosigningSection = CosigningSection()
    timestamps: TimestampsSection = TimestampsSection()

    def link_rule(self, stream: str) -> LinkRule:
        """Return the link rule a stream gets when its first event arrives."""
        for section in self.streams:
            if fnmatch.fnmatchcase(stream, section.pattern):
                return section.link
        return "witnessed"


def load(path: Path, *, founded: bool = True) -> Configuration:
    """Return the configuration in a TOML file; raises ConfigurationError.

    founded: whether it must name a registry; only what founds one does without.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected TOML: {error}") from error
    try:
        configuration = Configuration.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_first_problem(error)}") from None
    if founded and not configuration.service.registry_id:
        raise ConfigurationError(
            f"{path}: service.registry_id: expected the id that `witness genesis store` printed, got none; found the "
            "registry first, with `witness genesis draft`"
        )
    return configuration


def _first_problem(error: ValidationError) -> str:
    """Say which key is wrong and why, without the value: it may be a secret."""
    problems = []
    for item in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        what = "unknown key" if item["type"] == "extra_forbidden" else item["msg"][:1].lower() + item["msg"][1:]
        problems.append(f"{where}: {what}")
    return "; ".join(problems)
