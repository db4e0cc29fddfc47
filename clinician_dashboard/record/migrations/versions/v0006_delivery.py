"""What goes out to the health record, until it has arrived."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing yet."""
