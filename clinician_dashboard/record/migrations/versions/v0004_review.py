"""What clinicians say of a case - claims, reviews, sign-offs, critical calls."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing yet."""
