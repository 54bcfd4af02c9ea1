"""Verbs about events and the endpoints that get them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, DataOrUrl, Key, TokenFile, Url, reached, verb
from tallystick.activation.commands.console import PREFIX_LENGTH_MIN, AsJson, Database
from tallystick.errors import Error
from tallystick.sentences import _

if TYPE_CHECKING:
    from tallystick.activation.storage import SqlTransaction

webhooks_app = typer.Typer(
    no_args_is_help=True, help="Endpoints that get events: add, list, show, change, deliveries, retry, replay."
)

WebhookText = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Its id, the first 6 symbols of it or more, or its URL.")
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind; repeatable.")
]
PositionOption = Annotated[
    int, typer.Option("--after", min=0, max=10**15, metavar="POSITION", help="Everything behind it.")
]


@webhooks_app.command(epilog="Example: tallystick activation webhooks add https://example.com/hook --data DIR")
@verb
def add(
    client: ApiClient,
    address: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent to, over HTTPS.")],
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Only events of this account; else of all.")
    ] = None,
    kind: Kinds = None,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="POSITION", help="Begin behind this position of the stream; else now."),
    ] = None,
    key: Key = None,
) -> None:
    """Have events sent to a URL. Its secret is shown once: the receiver checks signatures with it."""
    body = {"url": address, "account": account, "kinds": kind or [], "after": after}
    made = client.request("POST", "/v1/webhooks", body, key=key)
    _show_secret(
        client,
        made,
        _("{webhook_id}: events go to {url} (Standard Webhooks).", webhook_id=made["webhook_id"], url=made["url"]),
    )


@webhooks_app.command("list", epilog="Example: tallystick activation webhooks list --data DIR")
@verb
def list_(client: ApiClient) -> None:
    """Every endpoint, and how far it is."""
    found = client.all("/v1/webhooks")
    if client.as_json:
        console.print_json(found)
        return
    rows = [
        (
            one["webhook_id"],
            one["url"],
            one["account"] or "all",
            ", ".join(one["kinds"]) or "all",
            one["position"],
            _state(one),
        )
        for one in found
    ]
    empty = _("No webhooks yet. Next: tallystick activation webhooks add --help")
    console.print_table(
        (_("Webhook"), _("URL"), _("Account"), _("Kinds"), _("Position#"), _("State")), rows, empty=empty
    )


@webhooks_app.command(epilog="Example: tallystick activation webhooks show WH-ABCDEF --data DIR")
@verb
def show(client: ApiClient, webhook: WebhookText) -> None:
    """One endpoint, without its secret."""
    client.show_one(client.request("GET", f"/v1/webhooks/{_webhook_id(client, webhook)}"))


@webhooks_app.command(epilog="Example: tallystick activation webhooks change WH-ABCDEF --pause --data DIR")
@verb
def change(
    client: ApiClient,
    webhook: WebhookText,
    *,
    address: Annotated[str | None, typer.Option("--to", metavar="URL", help="Send events there from now on.")] = None,
    kind: Kinds = None,
    pause: Annotated[bool | None, typer.Option("--pause/--resume", help="Let events wait, or let them go on.")] = None,
) -> None:
    """Another URL or other kinds of events; pause it, let it go on."""
    body: dict[str, object] = {} if address is None else {"url": address}
    if kind:
        body["kinds"] = kind
    if pause is not None:
        body["is_enabled"] = not pause
    if not body:
        raise Error("usage", expected=_("at least one of --to, --kind, --pause, --resume"), seen=_("none"))
    after = client.change("PATCH", f"/v1/webhooks/{_webhook_id(client, webhook)}", body)
    client.show_result(after, f"{after['webhook_id']}: {after['url']}, {_state(after)}.")


@webhooks_app.command(
    "rotate-secret", epilog="Example: tallystick activation webhooks rotate-secret WH-ABCDEF --data DIR"
)
@verb
def rotate_secret(client: ApiClient, webhook: WebhookText, key: Key = None) -> None:
    """Another secret, shown once. For a day the one before signs as well."""
    made = client.request("POST", f"/v1/webhooks/{_webhook_id(client, webhook)}/secret", key=key)
    _show_secret(client, made, _("{webhook_id} has another secret.", webhook_id=made["webhook_id"]))


@webhooks_app.command(epilog="Example: tallystick activation webhooks remove WH-ABCDEF --data DIR")
@verb
def remove(client: ApiClient, webhook: WebhookText) -> None:
    """Send nothing to it any more, and forget its deliveries."""
    gone = client.request("DELETE", f"/v1/webhooks/{_webhook_id(client, webhook)}")
    client.show_result(gone | {"removed": True}, _("{webhook_id} is removed.", webhook_id=gone["webhook_id"]))


@webhooks_app.command(epilog="Example: tallystick activation webhooks deliveries WH-ABCDEF --data DIR")
@verb
def deliveries(
    client: ApiClient,
    webhook: Annotated[str | None, typer.Argument(metavar="WEBHOOK", help="Only of this one.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only waiting, delivered or given-up.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many of each, newest first.")] = 100,
) -> None:
    """What was sent, and what came of it."""
    chosen = [_webhook_id(client, webhook)] if webhook else [one["webhook_id"] for one in client.all("/v1/webhooks")]
    query = {"state": state, "limit": limit}
    pages = [client.request("GET", f"/v1/webhooks/{webhook_id}/deliveries", query=query) for webhook_id in chosen]
    found = [{**one, "type": one["kind"]} for page in pages for one in page["items"]]
    rest = "--limit, --state" if any(page["next"] for page in pages) else None
    columns = [(_("Position#"), "position"), (_("Event"), "kind"), (_("Webhook"), "webhook_id"), (_("State"), "state")]
    columns += [
        (_("Tries#"), "attempts"),
        (_("Answer#"), "status"),
        (_("Detail"), "detail"),
        (_("Next try"), "next_at"),
    ]
    client.show(found, columns, empty=_("No deliveries."), rest=rest)


@webhooks_app.command(epilog="Example: tallystick activation webhooks retry WH-ABCDEF --data DIR")
@verb
def retry(
    client: ApiClient,
    webhook: WebhookText,
    position: Annotated[
        list[int] | None,
        typer.Option("--position", "--place", metavar="POSITION", min=1, help="Only this delivery; repeatable."),
    ] = None,
) -> None:
    """Try what waits or was given up now. Serving processes do it within seconds."""
    path = f"/v1/webhooks/{_webhook_id(client, webhook)}"
    for one in position or ():
        client.request("POST", f"{path}/deliveries/{one}/retry")
    count = len(position) if position else client.request("POST", f"{path}/retry")["retried"]
    client.show_result({"retried": count}, _("{count} deliveries are tried again.", count=count))


@webhooks_app.command(epilog="Example: tallystick activation webhooks replay WH-ABCDEF --after 1200 --data DIR")
@verb
def replay(client: ApiClient, webhook: WebhookText, after: PositionOption) -> None:
    """Send again what is behind a position of the stream, also what was delivered."""
    client.request("POST", f"/v1/webhooks/{_webhook_id(client, webhook)}/replay", {"after": after})
    client.show_result({"after": after}, _("Everything behind position {after} is sent again.", after=after))


def events(
    *,
    after: Annotated[
        int, typer.Option("--after", min=0, metavar="POSITION", help="Only what is behind this position.")
    ] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 100,
    kind: Kinds = None,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")] = None,
    data: DataOrUrl = None,
    url: Url = None,
    token_file: TokenFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """The stream of events: what happened, in the order in which it became true."""
    if data is None or url is not None:
        with reached(data, url, token_file, as_json=as_json) as client:
            query = {"after": after, "limit": limit, "kind": kind, "account": account}
            page = client.request("GET", "/v1/events", query=query)
            _show_events(page["events"], as_json=as_json, has_more=page["has_more"])
        return
    from tallystick.activation.core.permissions import EVERYTHING
    from tallystick.activation.outbound import webhooks

    with console.opened(data, database, as_json=as_json) as activation:
        activation.dispatcher().place_all()

        def called(transaction: SqlTransaction) -> str | None:
            return account if account is None else transaction.within(EVERYTHING).account_called(account)

        found = activation.read(
            lambda tx: tx.events.find(after=after, limit=limit + 1, account=called(tx), kinds=kind or ())
        )
        shown = [webhooks.event_view(event) for event in found[:limit]]
        _show_events(shown, as_json=as_json, has_more=len(found) > limit)


def _show_events(found: list[dict[str, Any]], *, as_json: bool, has_more: bool) -> None:
    if as_json:
        console.print_json(found)
        return
    rows = [
        (
            event["position"],
            event["timestamp"][:16].replace("T", " "),
            event["type"],
            event["account"] or "",
            event["data"].get("name") or event["data"].get("line") or "",
        )
        for event in found
    ]
    console.print_table((_("Position#"), _("At"), _("Event"), _("Account"), _("About")), rows, empty=_("No events."))
    if has_more:
        rest = f"--after {found[-1]['position']}"
        console.say(_("These are {count}; there are more: {rest}", count=len(found), rest=rest))


def _show_secret(client: ApiClient, made: dict[str, Any], sentence: str) -> None:
    shown = made["secret"] or _("was shown when it was made")
    client.show_result(made, sentence, _("Its secret, shown only now: {shown}", shown=shown))


def _state(webhook: dict[str, Any]) -> str:
    if webhook["stopped_at"] is not None:
        return _("stopped: {why}", why=webhook["stopped_why"])
    return _("in service") if webhook["is_enabled"] else _("paused")


def _webhook_id(client: ApiClient, text: str) -> str:
    found = [
        one["webhook_id"]
        for one in client.all("/v1/webhooks")
        if text in {one["webhook_id"], one["url"]}
        or (len(text) >= PREFIX_LENGTH_MIN and one["webhook_id"].startswith(text))
    ]
    if len(found) != 1:
        code = "ambiguous" if found else "not-found"
        raise Error(code, expected=_("one webhook that is known there"), seen=", ".join(found[:5]) or repr(text[:60]))
    return str(found[0])
