"""Settings of sign-in."""

from pydantic import Field

from broker_config.settings import Section


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
    always_https: bool = Field(
        False,
        description="true where a proxy in front speaks TLS but does not say so: the cookie then goes over https only",
    )
