"""A database of the first version is taken along."""

import sqlite3

from tallystick.administrator.memory import database
from tallystick.administrator.memory.inventory import Inventory


def test_a_database_of_version_1_keeps_its_field_servers_and_gets_sites(tmp_path):
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.executescript(database._SCHEMA)
    connection.execute(
        "INSERT INTO field_servers (device_id, name, kind, host_id, address, certificate, fingerprint, password, added_at)"
        " VALUES ('d1', 'roof', 'AS-P', 'h', 'https://roof', 'PEM', 'SHA256:x', 'p', 1)"
    )
    connection.execute("PRAGMA user_version=1")
    connection.commit()
    connection.close()
    for _ in range(2):  # the second time there is nothing to do
        opened = database.open_database(tmp_path)
        inventory = Inventory(opened)
        inventory.set_site(["d1"], "North")
        (record,) = inventory.field_servers()
        assert (record.name, record.site, record.contact.password) == ("roof", "North", "p")
        opened.close()
