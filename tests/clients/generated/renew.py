"""What a back office does with a generated Python client: it renews a line, suspends it, and creates an entitlement."""

import json
import sys

from office_client.api.entitlements import create_entitlement_v1_entitlements_post as create
from office_client.api.lines import change_line_v1_lines_line_id_patch as change
from office_client.api.lines import load_line_v1_lines_line_id_get as load
from office_client.client import AuthenticatedClient
from office_client.models import BoughtProduct, ChangedLine, NewEntitlement

url, token, line_id, until = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)


def changed(body: ChangedLine) -> dict[str, object]:
    seen = load.sync_detailed(line_id, client=client)
    answer = change.sync_detailed(line_id, client=client, body=body, if_match=seen.headers["etag"])
    assert answer.status_code == 200, answer.content
    return answer.parsed.to_dict()


renewed = changed(ChangedLine(expires_at=int(until)))
suspended = changed(ChangedLine(suspended=True))
resumed = changed(ChangedLine(suspended=False))
body = NewEntitlement(account="Harbour", products=[BoughtProduct(product="mqtt-client", quantity=3)])
made = create.sync(client=client, body=body, idempotency_key="order-4711")
again = create.sync(client=client, body=body, idempotency_key="order-4711")
sys.stdout.write(json.dumps([renewed, suspended, resumed, made.to_dict(), again.to_dict()]))
