"""The password of PostgreSQL in a file of libpq's, as the installation page has it: what serves finds it, and no backup holds it."""

import subprocess
import tarfile

import psycopg
import pytest

from support.postgres import Cluster
from support.processes import run, serving

PASSWORD = "Rm4-only-in-its-own-file"
pytestmark = pytest.mark.postgres


@pytest.fixture
def url():
    cluster = Cluster()
    with psycopg.connect(host=str(cluster.home), user="tally", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE kept OWNER keeper")
        rules = cluster.data / "pg_hba.conf"
        rules.write_text("local all keeper scram-sha-256\n" + rules.read_text("utf-8"), "utf-8")
        connection.execute("SELECT pg_reload_conf()")
    yield f"postgresql+psycopg://keeper@/kept?host={cluster.home}"
    cluster.remove()


def test_what_has_the_file_serves_and_no_backup_holds_the_password(url, tmp_path):
    data, file = tmp_path / "data", tmp_path / "pgpass"
    file.write_text(f"*:*:kept:keeper:{PASSWORD}\n", "utf-8")
    file.chmod(0o600)
    known, unknown = {"PGPASSFILE": str(file)}, {"PGPASSFILE": str(tmp_path / "none")}
    made = ("activation", "init", "--data", data, "--issuer", "Maker", "--database", url)
    refused = run(*made, expect=3, env=unknown)
    assert (refused["code"], "no password supplied" in refused["seen"]) == ("database-unavailable", True)
    assert not data.exists() or not (data / "settings.toml").exists()
    run(*made, env=known)
    with serving("activation", "serve", "--data", data, "--port", "0", env=known) as (told, _):
        assert told["url"]
    run("activation", "backup", "-o", tmp_path / "backup.tar.gz", "--data", data, env=known)
    with tarfile.open(tmp_path / "backup.tar.gz") as tar:
        tar.extractall(tmp_path / "backup", filter="data")
    for place in (data, tmp_path / "backup"):
        found = subprocess.run(["grep", "-rl", PASSWORD, place], check=False, capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (1, "")
