// What a back office does with a generated TypeScript client: it renews a line, suspends it, and creates an entitlement.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

declare const process: { argv: string[]; stdout: { write(text: string): void } };

const [url, token, lineId, until] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });
const path = { line_id: lineId };

async function changed(body: components["schemas"]["ChangedLine"]) {
  const seen = await client.GET("/v1/lines/{line_id}", { params: { path } });
  const etag = seen.response.headers.get("etag") ?? "";
  const answer = await client.PATCH("/v1/lines/{line_id}", { params: { path, header: { "If-Match": etag } }, body });
  if (!answer.data) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

async function created() {
  const answer = await client.POST("/v1/entitlements", {
    params: { header: { "Idempotency-Key": "order-4711" } },
    body: { account: "Harbour", products: [{ product: "mqtt-client", quantity: 3 }], is_new_account: false },
  });
  if (!answer.data) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const renewed = await changed({ expires_at: Number(until) });
const suspended = await changed({ suspended: true });
const resumed = await changed({ suspended: false });
process.stdout.write(JSON.stringify([renewed, suspended, resumed, await created(), await created()]));
