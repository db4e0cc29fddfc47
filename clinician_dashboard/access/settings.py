"""Settings of sign-in."""

from pathlib import Path

from pydantic import Field, model_validator

from broker_config.settings import Section
from clinician_dashboard.access.oidc_settings import OidcSettings


class WebTlsSettings(Section):
    """The certificate that the pages show."""

    cert_file: Path = Field(description="the certificate with its chain, PEM")
    key_file: Path = Field(description="its key, PEM, without a passphrase, readable by this user only")


class SignInSettings(Section):
    """How people sign in, and for how long."""

    idle_minutes: int = Field(
        30,
        ge=1,
        le=1440,
        description="a session ends after so long without its user; a page that stays open does not count",
    )
    longest_hours: int = Field(
        12, ge=1, le=168, description="a session ends so long after its sign-in, in any case"
    )
    passwords: bool = Field(
        True,
        description="whether people may sign in with a password; false: only through the identity provider",
    )
    oidc: OidcSettings | None = Field(
        None, description="present: people may sign in through this identity provider"
    )
    always_https: bool = Field(
        False,
        description="true where a proxy in front speaks TLS but does not say so: the cookie then goes over https only",
    )

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> "SignInSettings":
        if not self.passwords and self.oidc is None:
            raise ValueError("passwords: false lets nobody in unless 'oidc' names an identity provider")
        return self
