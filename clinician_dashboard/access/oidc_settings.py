"""Settings of the identity provider."""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from broker_config.settings import Section
from clinician_dashboard.access.roles import Role


class OidcSettings(Section):
    """Which identity provider people sign in through, and which role its claim means."""

    issuer: str = Field(description="the provider's issuer, an https address")
    client_id: str = Field(min_length=1, description="what the provider calls this dashboard")
    client_secret_file: Path | None = Field(
        None,
        description="file that holds the client secret, readable by this user only; none: a public client",
    )
    client_secret: SecretStr | None = Field(
        None, description="only through the environment, as HEMOLINK_SIGN_IN__OIDC__CLIENT_SECRET"
    )
    label: str = Field(
        "Sign in with your organisation", min_length=1, max_length=60, description="what the button says"
    )
    base_url: str | None = Field(
        None,
        description="how browsers reach the dashboard, such as https://hemolink.example; from the request if none",
    )
    scopes: tuple[str, ...] = Field(("openid", "profile"), description="what is asked for")
    role_claim: str = Field("groups", description="the claim that means a role; a dot goes into a claim")
    roles: dict[str, Role] = Field(
        min_length=1, description="value of the claim to role; the first that matches counts"
    )
    name_claim: str = Field("preferred_username", description="the claim that becomes the login here")
    full_name_claim: str = Field("name", description="the claim that is printed under signatures")

    @field_validator("issuer", "base_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not cls.is_secure(value):
            raise ValueError("write an https address (http only for one on this very machine)")
        return value

    @field_validator("scopes")
    @classmethod
    def _asks_for_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("'openid' must be among them")
        return value

    @staticmethod
    def is_secure(address: str) -> bool:
        """Return whether nobody on the way can change what an address answers."""
        try:
            parts = urlsplit(address)
            host = parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme == "https":
            return bool(host)
        try:
            return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        except ValueError:
            return False

    def read_secret(self) -> str | None:
        """Return the client secret, read anew so that it can be changed while the dashboard runs.

        Raises:
            OSError: If the file cannot be read.
        """
        if self.client_secret_file is not None:
            return self.client_secret_file.read_text(encoding="utf-8").rstrip("\r\n")
        return self.client_secret.get_secret_value() if self.client_secret is not None else None
