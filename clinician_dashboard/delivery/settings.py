"""Settings of the way out to the health record."""

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from broker_config.settings import Section, TlsSettings

Status = Literal["preliminary", "final", "amended"]
EVERY_STATUS: tuple[Status, ...] = ("preliminary", "final", "amended")


class ClientCredentials(Section):
    """OAuth 2.0 client credentials (RFC 6749, 4.4), as SMART Backend Services without a signed assertion."""

    token_url: str = Field(description="where a token is asked for")
    client_id: str = Field(min_length=1, description="this client's name there")
    client_secret_file: Path = Field(
        description="file that holds the client's secret, readable by this user only"
    )
    scope: str = Field("", description="the scope to ask for; the server's default if empty")


class TargetSettings(Section):
    """What both ways out have in common."""

    send: tuple[Status, ...] = Field(
        ("final", "amended"),
        min_length=1,
        description="which reports are sent; preliminary ones are the model's alone, and are sent only if named here",
    )
    settle_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="a preliminary report waits until its case has been quiet for so long",
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="the other side must answer within")
    longest_pause_s: float = Field(300.0, gt=0, le=86400, description="most time between two tries")
    tls: TlsSettings | None = Field(None, description="how the connection is secured")


class FhirPushSettings(TargetSettings):
    """A FHIR server that is told of every report."""

    base_url: str = Field(description="the server's base address, such as https://fhir.example.org/r4")
    version: Literal["r4b", "r5"] = Field("r4b", description="the FHIR release that it speaks")
    token_file: Path | None = Field(
        None, description="file that holds a bearer token, read anew for each request"
    )
    client_credentials: ClientCredentials | None = Field(
        None, description="ask for a token instead of reading one"
    )
    desk_url: str | None = Field(
        None,
        description="what addresses of frames begin with, where readers can reach this desk; left out if none",
    )
    with_pdf: bool = Field(True, description="carry the report as PDF too")
    leave_out: tuple[Literal["AuditEvent", "Provenance"], ...] = Field(
        (), description="resources that the server does not take"
    )
    plain_http: bool = Field(
        False, description="allow http:// to another machine: reports and token travel in the clear"
    )

    @field_validator("base_url", "desk_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an address: write https://fhir.example.org/r4")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address without password, query and fragment: a token stands in token_file")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _keeps_secrets(self) -> "FhirPushSettings":
        if self.token_file and self.client_credentials:
            raise ValueError("token_file and client_credentials exclude each other")
        addresses = [self.base_url]
        if self.client_credentials:
            addresses.append(self.client_credentials.token_url)
        for address in addresses:
            if not self.plain_http and urlsplit(address).scheme == "http" and not is_loopback(address):
                raise ValueError(
                    f"{address} is not encrypted: write https://, or say plain_http: true where the network is trusted"
                )
        return self


class MllpSettings(TargetSettings):
    """A receiver of HL7 v2 messages over MLLP."""

    host: str = Field(min_length=1, description="name or address of the receiver")
    port: int = Field(ge=1, le=65535, description="its port")
    application: str = Field("", max_length=80, description="MSH-5, the receiving application")
    facility: str = Field("", max_length=80, description="MSH-6, the receiving facility")


def is_loopback(address: str) -> bool:
    """Return whether an address names this very machine."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
