"""The schema: what the migrations build is what the tables say, and no version works on another's schema."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from support.office import Office
from tallystick.activation.storage import DatabaseError, open_store, schema
from tallystick.activation.storage.dialects import dialect_for
from tallystick.activation.storage.tables import METADATA


def migrate(url):
    dialect = dialect_for(url)
    engine = dialect.open_engine(create=True)
    try:
        return schema.migrate(engine, dialect)
    finally:
        engine.dispose()


def touch(url):
    """The database is there, and empty."""
    engine = dialect_for(url).open_engine(create=True)
    engine.connect().close()
    engine.dispose()


def set_version(url, version):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()


def test_the_migrations_build_the_tables(url):
    assert migrate(url) == (None, schema.HEAD)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_the_known_versions_are_those_of_the_migrations():
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(schema.KNOWN)


def test_migrating_again_changes_nothing(url):
    migrate(url)
    assert migrate(url) == (schema.HEAD, schema.HEAD)


def test_a_newer_schema_is_refused_and_left_alone(url):
    migrate(url)
    set_version(url, "9999")
    for attempt in (lambda: migrate(url), lambda: open_store(url), lambda: open_store(url, service=True)):
        with pytest.raises(DatabaseError) as refused:
            attempt()
        assert refused.value.code == "database-newer"


def test_a_database_without_a_schema_is_refused_by_a_command(url):
    touch(url)
    with pytest.raises(DatabaseError) as refused:
        open_store(url)
    assert refused.value.code == "not-initialised"


def test_who_migrates_at_the_same_time_waits_and_finds_it_done(url):
    touch(url)
    with ThreadPoolExecutor(3) as pool:
        found = sorted(str(before) for before, _ in pool.map(migrate, [url] * 3))
    assert found == [schema.HEAD, schema.HEAD, "None"]
    office = Office.at(url)
    office.audit()
    office.store.close()
