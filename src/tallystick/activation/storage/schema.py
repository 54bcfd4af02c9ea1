"""Which version a database's schema is of, and how it becomes the newest.

The usual case, a current schema, costs one small read and no import of Alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from tallystick.activation.storage.dialects import READING, WRITING, DatabaseError, Dialect
from tallystick.sentences import _

HEAD: Final = "0014"
KNOWN: Final = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
)  # oldest first; a test compares them with the migrations
_VERSION: Final = text("SELECT version_num FROM alembic_version")


def check(engine: Engine, dialect: Dialect, *, may_migrate: bool) -> None:
    """Raises ``DatabaseError`` unless the schema is current, or may be and was made so."""
    with engine.connect().execution_options(**READING) as connection:
        found = version(connection)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise DatabaseError(
            "database-newer", expected=_("a schema up to {head}", head=HEAD), seen=_("schema {found}", found=found)
        )
    if not may_migrate:
        code = "not-initialised" if found is None else "database-older"
        raise DatabaseError(
            code,
            expected=_("a database with schema {head}", head=HEAD),
            seen=_("schema {found}", found=found or "none"),
        )
    migrate(engine, dialect)


def version(connection: Connection) -> str | None:
    """The version of the schema, None where there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(_VERSION).scalar()
    return found


def migrate(engine: Engine, dialect: Dialect) -> tuple[str | None, str]:
    """Bring the schema up to date in one transaction. Returns the version before and after."""
    from alembic import command  # noqa: PLC0415 - slow to import and rarely needed
    from alembic.config import Config  # noqa: PLC0415 - see above

    with engine.connect().execution_options(**WRITING) as connection, connection.begin():
        dialect.wait_without_end(connection)
        dialect.lock_names(connection, ["migration"])
        before = version(connection)
        if before is not None and before not in KNOWN:
            raise DatabaseError(
                "database-newer",
                expected=_("a schema up to {head}", head=HEAD),
                seen=_("schema {before}", before=before),
            )
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, HEAD
