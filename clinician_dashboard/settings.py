"""Settings of the dashboard daemon."""

import ipaddress
from pathlib import Path

from pydantic import Field, field_validator

from broker_config.errors import TopicError
from broker_config.settings import BrokerSettings, LogSettings, Section
from broker_config.topics import check_level

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class RecordLimits(Section):
    """How much may wait in the record for its other half. What goes over is dropped oldest first, and comes again."""

    pending_frames: int = Field(
        20_000,
        ge=1,
        description="frames kept while they wait for a diagnosis; the edge still holds each of them",
    )
    pending_diagnoses: int = Field(20_000, ge=1, description="diagnoses kept while they wait for their image")


class Settings(Section):
    """Everything the dashboard needs to know, validated before anything starts."""

    broker: BrokerSettings = Field(BrokerSettings(), description="how to reach the broker")
    directory: Path = Field(description="where the record and its images live; one dashboard a directory")
    name: str = Field(
        "dashboard",
        description="this dashboard's name in receipts and in its client id; one running at a time",
    )
    host: str = Field("127.0.0.1", min_length=1, description="address the web pages listen on")
    port: int = Field(8080, ge=0, le=65535, description="port of the web pages; 0: any free one")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names a browser may use in the address, besides localhost and the host above"
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy address of the record; a SQLite file in the directory if none"
    )
    limits: RecordLimits = Field(RecordLimits(), description="bounds of what may wait for its other half")
    log: LogSettings = Field(LogSettings(), description="how to log")

    @field_validator("name")
    @classmethod
    def _is_level(cls, value: str) -> str:
        try:
            return check_level(value, name="name")
        except TopicError as error:
            raise ValueError(str(error)) from None

    @property
    def record_url(self) -> str:
        """The database address in use."""
        return self.database_url or f"sqlite:///{self.directory / 'record.sqlite'}"

    @property
    def host_names(self) -> frozenset[str]:
        """The host names a request may carry, lower case, without port."""
        names = {*LOOPBACK_NAMES, *(name.lower() for name in self.allowed_hosts)}
        if not _is_wildcard(self.host):
            names.add(self.host.lower())
        return frozenset(names)


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
