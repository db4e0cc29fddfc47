"""Databases that hold no record yet."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from clinician_dashboard.record import Record
from tests.clinician_dashboard.desk.postgres import PostgresServer

_DATABASES = itertools.count(1)


@dataclass
class Store:
    """A database that holds no record yet, and a folder."""

    engine: str
    directory: Path
    url: str
    server: PostgresServer | None = None

    def record(self, *, directory: Path | None = None) -> Record:
        password = self.server.PASSWORD if self.server else None
        return Record(self.url, directory or self.directory, password=lambda: password)

    def settings(self) -> dict[str, Any]:
        """What a dashboard must be told beside its folder."""
        if self.server is None:
            return {}
        secret = self.directory.parent / "database.password"
        secret.write_text(self.server.PASSWORD + "\n")
        return {"database_url": self.url, "database_password_file": secret}

    def execute(self, statement: str) -> list[Any]:
        if self.server is not None:
            return self.server.execute(statement, database=self.url.rpartition("/")[2])
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            answer = connection.exec_driver_sql(statement)
            return list(answer.all()) if answer.returns_rows else []


def sqlite_store(directory: Path) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    return Store("sqlite", directory, f"sqlite:///{directory / 'record.sqlite'}")


def postgres_store(server: PostgresServer, directory: Path) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    name = f"record_{next(_DATABASES)}"
    server.execute(f"create database {name}")
    return Store("postgresql", directory, server.url(name), server)
