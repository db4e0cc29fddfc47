"""Settings of the review."""

from pydantic import Field

from broker_config.settings import Section


class ReviewSettings(Section):
    """How cases are claimed, read and told."""

    claim_minutes: int = Field(
        30, ge=1, le=24 * 60, description="a claim ends so long after the reader's last act on the case"
    )
    acknowledge_minutes: float = Field(
        15,
        gt=0,
        le=24 * 60,
        description="a critical case not acknowledged by then is escalated to the lab lead",
    )
    blind_first: bool = Field(
        default=False, description="every reader reads before seeing the model's answer, at every site"
    )
    blind_sites: tuple[str, ...] = Field((), description="the same, for cases of these sites only")
