"""The tables of users, of their sessions and of integrations' tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table


class UserRow(Table):
    """A person who may sign in. Never deleted, since the audit and signatures name them; switched off instead."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True, doc="the login, lower case")
    full_name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    password_hash: Mapped[str | None] = mapped_column(String(300), default=None, doc="argon2id")
    oidc_subject: Mapped[str | None] = mapped_column(String(300), unique=True, default=None)
    must_change: Mapped[bool] = mapped_column(default=False, doc="an admin chose the password")
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class SessionRow(Table):
    """A signed-in browser, by the hash of its cookie."""

    __tablename__ = "sessions"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(10), doc="password or oidc")
    address: Mapped[str] = mapped_column(String(64), doc="of the client that signed in")
    agent: Mapped[str] = mapped_column(String(200), doc="what that browser called itself")
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class TokenRow(Table):
    """A token of an integration, by its hash; it has a role like a person."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_by: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    used_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
