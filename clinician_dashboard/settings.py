"""Settings of the dashboard daemon."""

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from broker_config.credentials import tls_context
from broker_config.errors import TopicError
from broker_config.settings import BrokerSettings, LogSettings, Section, TlsSettings
from broker_config.topics import check_level
from clinician_dashboard.access.settings import SignInSettings, WebTlsSettings
from clinician_dashboard.delivery.settings import FhirPushSettings, MllpSettings
from clinician_dashboard.review.settings import ReviewSettings

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
        None,
        description="where the record is kept: postgresql://user@host:5432/database; a SQLite file in the directory if none",
    )
    database_password_file: Path | None = Field(
        None, description="file that holds the database password, readable by this user only"
    )
    database_password: SecretStr | None = Field(
        None, description="only through the environment, as HEMOLINK_DATABASE_PASSWORD"
    )
    database_tls: TlsSettings | None = Field(
        None, description="present: the database server must show a certificate that is trusted"
    )
    picture_cache_mb: int = Field(
        1000,
        ge=10,
        description="most that thumbnails and tiles may take in cache/ beside the record; they can be made again at any time",
    )
    tls: WebTlsSettings | None = Field(
        None,
        description="present: the pages speak https with this certificate; absent: http, for a proxy or this machine",
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    sign_in: SignInSettings = Field(SignInSettings(), description="how people sign in, and for how long")
    fhir_push: FhirPushSettings | None = Field(
        None, description="present: reports are pushed to a FHIR server"
    )
    hl7_mllp: MllpSettings | None = Field(
        None, description="present: reports are sent to a receiver of HL7 v2 messages"
    )
    review: ReviewSettings = Field(ReviewSettings(), description="how cases are claimed, read and told")
    limits: RecordLimits = Field(RecordLimits(), description="bounds of what may wait for its other half")
    log: LogSettings = Field(LogSettings(), description="how to log")

    @field_validator("name")
    @classmethod
    def _is_level(cls, value: str) -> str:
        try:
            return check_level(value, name="name")
        except TopicError as error:
            raise ValueError(str(error)) from None

    @field_validator("database_url")
    @classmethod
    def _holds_no_password(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            secret = parts.password is not None or "password=" in parts.query.lower()
        except ValueError:
            raise ValueError("not an address: write postgresql://user@host:5432/database") from None
        if secret:
            raise ValueError(
                "a password may not stand in a settings file: use database_password_file, or the variable "
                "HEMOLINK_DATABASE_PASSWORD"
            )
        if parts.scheme.partition("+")[0] not in ("postgresql", "postgres", "sqlite"):
            raise ValueError(
                "a record lives in PostgreSQL or in SQLite: write postgresql://user@host:5432/database, or leave it out"
            )
        return value

    @model_validator(mode="after")
    def _secures_something(self) -> "Settings":
        if self.database_url is None and (
            self.database_password_file or self.database_password or self.database_tls
        ):
            raise ValueError(
                "database_password_file, database_password and database_tls are for a server: name it in database_url"
            )
        return self

    def read_database_password(self) -> str | None:
        """Return the database password, read anew so that it can be changed while the daemon runs.

        Raises:
            OSError: If the password file cannot be read.
        """
        if self.database_password_file is not None:
            return self.database_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return self.database_password.get_secret_value() if self.database_password is not None else None

    def read_database_tls(self) -> ssl.SSLContext | None:
        """Return the TLS context for the database server, none if nobody asked for one.

        Raises:
            OSError: If a file is missing or is not PEM.
        """
        if self.database_tls is None:
            return None
        return tls_context(BrokerSettings(tls=self.database_tls))

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
