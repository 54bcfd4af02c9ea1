"""Row 4: a name is found however it is typed, in both databases, and no two accounts look the same."""

import unicodedata

import pytest
from sqlalchemy import create_engine, text

from tallystick.activation.core.permissions import Role
from tallystick.activation.storage import schema
from tallystick.activation.storage.dialects import dialect_for
from tallystick.domain.text import folded, is_trick, normal

NAME = "ÄRZTEHAUS-ÖST"
FORMS = [
    NAME,
    NAME.lower(),
    unicodedata.normalize("NFD", NAME),
    "ärztehaus\u2011ö",
    "Haus-ÖST",
    "ztehaus\u2013öst\u200b",
]
LOOK_ALIKES = [
    unicodedata.normalize("NFD", "Müller Süd"), "MÜLLER SÜD", "Müller  Süd", "Müller\u00a0Süd", "M\u00fcller S\u00fcd\u200b",
    " Müller Süd ",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_field_server_is_found_however_its_name_is_typed(site, form):
    (line,) = site.sell("Harbour", ("smartdriver", 2)).lines
    device = site.activated(site.device(NAME), (line, 1))
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    found = client.get("/v1/field-servers", params={"text": form}).json()["items"]
    assert [one["device_id"] for one in found] == [device.id]
    assert found[0]["name"] == NAME
    assert client.get("/v1/field-servers", params={"text": "Zahnhaus"}).json()["items"] == []


@pytest.mark.parametrize("other", LOOK_ALIKES)
def test_no_second_account_looks_like_one_that_is_there(site, other):
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    assert client.post("/v1/accounts", json={"account": "Müller Süd"}).status_code == 201
    refused = client.post("/v1/accounts", json={"account": other})
    assert (refused.status_code, refused.json()["code"]) == (409, "exists-already"), refused.text
    body = {"account": other, "is_new_account": True, "products": [{"product": "smartdriver", "quantity": 1}]}
    sold = client.post("/v1/entitlements", json=body)
    assert sold.json().get("account", "Müller Süd") == "Müller Süd"
    assert [one["account"] for one in client.get("/v1/accounts").json()["items"]] == ["Müller Süd"]


@pytest.mark.parametrize("typed", LOOK_ALIKES)
def test_an_account_that_is_filtered_by_is_found_however_it_is_typed(site, typed):
    (line,) = site.sell("Müller Süd", ("smartdriver", 2)).lines
    site.activated(site.device("roof"), (line, 1))
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    paths = [path for path, routes in site.web.openapi()["paths"].items() if takes_an_account(routes.get("get", {}))]
    assert {"/v1/entitlements", "/v1/lines", "/v1/field-servers", "/v1/ledger", "/v1/events"} <= set(paths)
    for path in paths:
        shown = {name: client.get(path, params={"account": name}).json() for name in (typed, "Müller Nord")}
        found = {name: document.get("items", document.get("events")) for name, document in shown.items()}
        assert found[typed], path
        assert found["Müller Nord"] == [], path


def takes_an_account(operation):
    return any(one["in"] == "query" and one["name"] == "account" for one in operation.get("parameters", ()))


def test_a_name_is_kept_composed_with_single_blanks(site):
    made = site.client(Role.VENDOR_ADMINISTRATOR).post("/v1/accounts", json={"account": "  A\u0308rzte\u00a0 Haus "})
    assert made.json()["account"] == "Ärzte Haus"


def test_accounts_that_looked_alike_before_survive_the_migration_and_new_ones_are_refused(site, tmp_path, request):
    is_sqlite = "sqlite" in request.node.callspec.id
    url = f"sqlite:///{tmp_path}/old.sqlite" if is_sqlite else request.getfixturevalue("cluster").new_database()
    dialect = dialect_for(url)
    engine = dialect.open_engine(create=True)
    schema.migrate(engine, dialect)
    engine.dispose()
    plain = create_engine(url)
    with plain.begin() as connection:  # as release 0011 left it
        connection.execute(text("DROP TABLE incident_states"))
        for index in ("ix_accounts_folded", "ix_field_servers_host_folded"):
            connection.execute(text(f"DROP INDEX {index}"))
        connection.execute(text("ALTER TABLE field_servers DROP COLUMN host_folded"))
        connection.execute(text("CREATE INDEX ix_field_servers_host_id ON field_servers (host_id)"))
        for table in ("accounts", "field_servers"):
            connection.execute(text(f"ALTER TABLE {table} DROP COLUMN folded"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0011'"))
        for name in ("Müller", "MÜLLER", "Mu\u0308ller"):
            connection.execute(text("INSERT INTO accounts (account, created_at) VALUES (:name, 1)"), {"name": name})
    plain.dispose()
    engine = dialect.open_engine(create=False)
    assert schema.migrate(engine, dialect) == ("0011", schema.HEAD)
    engine.dispose()
    plain = create_engine(url)
    with plain.connect() as connection:
        rows = connection.execute(text("SELECT account, folded FROM accounts")).all()
    plain.dispose()
    assert {name for name, _ in rows} == {"Müller", "MÜLLER", "Mu\u0308ller"}
    assert {key for _, key in rows} == {folded("müller")}


@pytest.mark.parametrize(
    "name", ["Straße", "İstanbul", "ΣΊΣΥΦΟΣ", "ﬁn", "한국", "\uff21\uff22\uff23", "e\u0301", "Ǆ", "ς"]
)
def test_folding_twice_is_folding_once(name):
    assert folded(folded(name)) == folded(name) == folded(name.upper()) == folded(name.swapcase())
    assert normal(normal(name)) == normal(name)


def test_a_word_of_two_alphabets_that_look_alike_is_a_trick():
    assert is_trick("P\u0430ypal")
    for fine in ("Danfoss A/S", "Άλφα \u0391\u0395", "O'Neill", "東京電力", "Вода Bau", "Straße"):
        assert not is_trick(fine)
