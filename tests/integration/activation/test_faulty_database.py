"""A database that is absent, locked, full, read-only, damaged, of another version: each has its code, nothing is lost."""

import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event

from tallystick.activation.core.ports import Changes, FieldServer
from tallystick.activation.storage import dialects, migrate_database, open_store, schema
from tallystick.activation.storage.tables import METADATA
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error


def save_one(store, name="a"):
    server = FieldServer(device_id=DeviceId(name), public_key="k", name="n" * 100)
    store.transact(lambda tx: tx.save(Changes(field_servers={server.device_id: server})))


def count(store):
    return len(store.read(lambda tx: tx.find_field_servers()))


def code_of(work, *arguments, **options):
    with pytest.raises(Error) as refused:
        work(*arguments, **options)
    return refused.value.code


@pytest.fixture
def path(database, tmp_path):
    return tmp_path / "store.sqlite"


def with_pragma(store, pragma):
    """Every connection of ``store`` from now on."""
    event.listen(store.engine, "connect", lambda connection, _: connection.execute(f"PRAGMA {pragma}"))
    store.engine.dispose()


class TestMigrations:
    def test_from_nothing_they_build_what_the_tables_say(self, store):
        with store.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
            assert schema.version(connection) == schema.HEAD

    def test_every_revision_is_known(self):
        config = Config()
        config.set_main_option("script_location", "tallystick.activation.storage:migrations")
        revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
        assert (tuple(revisions), revisions[-1]) == (schema.KNOWN, schema.HEAD)

    def test_again_changes_nothing(self, store, database):
        save_one(store)
        assert migrate_database(database) == (schema.HEAD, schema.HEAD)
        assert count(store) == 1

    def test_two_at_once_from_nothing(self, database):
        errors = []

        def create():
            try:
                open_store(database, create=True).close()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                errors.append(error)

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_a_newer_schema_is_refused_and_left_alone(self, store, database, path):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        for options in ({}, {"service": True}, {"create": True}):
            assert code_of(open_store, database, **options) == "database-newer"
        assert code_of(migrate_database, database) == "database-newer"

    def test_an_empty_file_is_brought_up_to_date_by_service_only(self, database, path):
        path.touch()
        assert code_of(open_store, database) == "not-initialised"
        open_store(database, service=True).close()
        open_store(database).close()


class TestFaults:
    def test_a_missing_file_is_not_made_anew(self, database, path):
        assert code_of(open_store, database) == "database-missing"
        assert code_of(open_store, database, service=True) == "database-missing"
        assert not path.exists()

    def test_another_kind_of_database_is_wrong_usage(self):
        assert code_of(open_store, "mysql://x/y") == "usage"
        assert code_of(open_store, "not a url") == "usage"
        assert code_of(open_store, "sqlite://") == "usage"

    def test_a_locked_one_is_unavailable_after_a_while_and_then_goes_on(self, database, path, monkeypatch):
        monkeypatch.setattr(dialects, "BUSY_SECONDS", 0.1)
        store = open_store(database, create=True)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert code_of(save_one, store) == "database-unavailable"
        assert count(store) == 0  # reading does not wait
        other.execute("ROLLBACK")
        save_one(store)
        assert count(store) == 1
        other.close()
        store.close()

    def test_a_full_disk_leaves_nothing_half_done_and_then_goes_on(self, database):
        store = open_store(database, create=True)
        with_pragma(store, "max_page_count = 1")  # as many pages as there are now, and no more
        done = 0
        try:
            while done < 10_000:
                save_one(store, f"server-{done}")
                done += 1
        except Error as error:
            assert error.code == "disk-full"  # noqa: PT017 - how many went well before is the question
        store.close()
        roomy = open_store(database)
        assert count(roomy) == done
        save_one(roomy)
        assert count(roomy) == done + 1
        roomy.close()

    def test_one_that_cannot_be_written_says_so(self, store):
        with_pragma(store, "query_only = ON")
        assert code_of(save_one, store) == "disk-failed"
        assert count(store) == 0

    def test_a_damaged_one_says_so(self, store, database, path):
        store.close()
        path.write_bytes(b"this is no database" * 1000)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        assert code_of(open_store, database) == "database-damaged"

    def test_a_directory_in_its_place_says_so(self, database, path):
        path.mkdir()
        assert code_of(open_store, database) == "disk-failed"
