"""A page takes as many statements as it takes, whatever its length: no list asks the database once for each row."""

from sqlalchemy import event

from support.schemas import management_document
from tallystick.activation.core.books import Books
from tallystick.activation.core.ports import IncidentKind
from tallystick.activation.http.portal.routes import PAGES

LISTS = [
    path
    for path, operations in management_document()["paths"].items()
    if any(parameter["name"] == "limit" for parameter in operations.get("get", {}).get("parameters", ()))
]
PAGES_OF_LISTS = [
    "/returns",
    "/incidents",
    "/lines",
    "/entitlements",
    "/field-servers",
    "/ledger",
    "/trail",
    "/people",
    "/webhooks",
]
STATEMENTS_MAX = 5
WHO_ASKS = (" FROM tokens", " FROM sessions", "FROM people WHERE people.person_id =")


class Counted:
    """What a request asked the database, beside who asks (a token, or a session and its person)."""

    def __init__(self, site):
        self.said = []
        event.listen(site.activation.store.engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, *_others):
        words = " ".join(statement.split())
        if words.startswith("SELECT") and not any(name in words for name in WHO_ASKS):
            self.said.append(words)


def grown(site, by, first):
    """So many more of everything."""
    line = site.sell("Harbour", ("smartdriver", 2 * by)).lines[0]
    for number in range(first, first + by):
        device = site.activated(site.device(f"d{number}"), (line, 1))
        site.post(device.give_back())
        site.sell("Harbour", ("mqtt", 1), ("mqtt", 2))
        site.client().post("/v1/webhooks", json={"url": f"https://hooks.example.com/{number}"})
        site.person(f"p{number}@example.com")

    def note(transaction):
        books = Books(transaction, site.activation.signer, now=site.now)
        for number in range(first, first + by):
            books.note(IncidentKind.ROLLBACK, site.device(f"d{number}").id, "noted")
        books.save()

    site.activation.transact(note)
    site.dispatcher().place_all()
    return line, device


def looked(site, reader, client, names):
    """How many statements each list and page took, and how many rows there were."""
    counted = Counted(site)
    took = {}
    for path in LISTS:
        counted.said.clear()
        answer = client.get(path.format(**names))
        assert answer.status_code == 200, (path, answer.text)
        took[path] = (len(counted.said), list(counted.said))
    for path in PAGES_OF_LISTS:
        assert path in PAGES
        counted.said.clear()
        assert reader.see(path).status_code == 200
        took[f"page {path}"] = (len(counted.said), list(counted.said))
    return took


def test_no_list_takes_more_statements_for_more_rows(site):
    line, device = grown(site, 2, 0)
    reader, client = site.signed_in("ana@example.com"), site.client()
    hook = client.get("/v1/webhooks").json()["items"][0]["webhook_id"]
    names = {"line_id": line.line_id, "device_id": str(device.id), "webhook_id": hook}
    assert len(LISTS) >= 13
    few = looked(site, reader, client, names)
    grown(site, 9, 2)
    many = looked(site, reader, client, names)
    assert len(client.get("/v1/field-servers").json()["items"]) == 11
    for path, (count, said) in many.items():
        assert count == few[path][0], (path, said)
        assert count <= STATEMENTS_MAX, (path, said)
