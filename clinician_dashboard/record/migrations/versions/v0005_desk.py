"""What the worklist and the operators' pages need at scale."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing yet."""
