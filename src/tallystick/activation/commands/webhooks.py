"""Commands about events and the endpoints that get them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, By, Data, Database

if TYPE_CHECKING:
    from tallystick.activation.storage import Delivery, PlacedEvent, Webhook

webhooks_app = typer.Typer(
    no_args_is_help=True, help="Endpoints that get events: add, list, deliveries, retry, replay."
)

WebhookText = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Its id, the first 6 symbols of it or more, or its URL.")
]


@webhooks_app.command(epilog="Example: tallystick activation webhooks add https://example.com/hook --data DIR")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent to, over HTTPS.")],
    data: Data,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Only events of this account; else of all.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind; repeatable.")
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", metavar="PLACE", help="Begin behind this place of the stream; else now.")
    ] = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Have events sent to a URL. Its secret is shown once: the receiver checks signatures with it."""
    from tallystick.activation import dispatch

    with console.opened(data, database, as_json=as_json) as activation:
        who, now = console.person(by), activation.now()
        made = activation.transact(
            lambda transaction: dispatch.add(
                transaction,
                url=url,
                account=account,
                kinds=kind or (),
                after=after,
                allowed=activation.settings.webhooks.allow_private,
                by=who,
                random_bytes=activation.random_bytes,
                now=now,
            )
        )
        if as_json:
            console.print_json(webhook_view(made) | {"secret": dispatch.secret_text(made)})
        else:
            console.say(f"{made.webhook_id}: events go to {made.url} (Standard Webhooks).")
            console.say(f"Its secret, shown only now: {dispatch.secret_text(made)}")


@webhooks_app.command("list", epilog="Example: tallystick activation webhooks list --data DIR")
def list_(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Every endpoint, and how far it is."""
    with console.opened(data, database, as_json=as_json) as activation:
        found = activation.read(lambda transaction: transaction.events.webhooks())
        if as_json:
            console.print_json([webhook_view(one) for one in found])
            return
        rows = [
            (
                one.webhook_id,
                one.url,
                one.account or "all",
                ", ".join(one.kinds) or "all",
                one.position,
                f"stopped: {one.stopped_why}" if one.stopped_at else "in service",
            )
            for one in found
        ]
        empty = "No webhooks yet. Next: tallystick activation webhooks add --help"
        console.print_table(("Webhook", "URL", "Account", "Kinds", "Place#", "State"), rows, empty=empty)


@webhooks_app.command(epilog="Example: tallystick activation webhooks remove WH-ABCDEF --data DIR")
def remove(webhook: WebhookText, data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Send nothing to it any more, and forget its deliveries."""
    from tallystick.activation import dispatch
    from tallystick.activation.storage import SqlTransaction

    def work(transaction: SqlTransaction) -> Webhook:
        found = dispatch.find(transaction, webhook)
        transaction.events.remove_webhook(found.webhook_id)
        return found

    with console.opened(data, database, as_json=as_json) as activation:
        gone = activation.transact(work)
        if as_json:
            console.print_json({"webhook_id": gone.webhook_id, "removed": True})
        else:
            console.say(f"{gone.webhook_id} is removed.")


@webhooks_app.command(epilog="Example: tallystick activation webhooks deliveries WH-ABCDEF --data DIR")
def deliveries(
    data: Data,
    webhook: Annotated[str | None, typer.Argument(metavar="WEBHOOK", help="Only of this one.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only waiting, delivered or given-up.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, newest first.")] = 100,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """What was sent, and what came of it."""
    from tallystick.activation import dispatch
    from tallystick.activation.storage import SqlTransaction

    def work(transaction: SqlTransaction) -> list[tuple[Delivery, PlacedEvent]]:
        chosen = dispatch.find(transaction, webhook).webhook_id if webhook else None
        return transaction.events.deliveries(webhook_id=chosen, state=state, limit=limit)

    with console.opened(data, database, as_json=as_json) as activation:
        found = activation.read(work)
        if as_json:
            console.print_json([delivery_view(*one) for one in found])
            return
        rows = [
            (
                delivery.position,
                event.kind,
                delivery.webhook_id,
                delivery.state,
                delivery.attempts,
                delivery.status or "",
                delivery.detail[:60],
                console.moment(delivery.next_at) if delivery.state == "waiting" else "",
            )
            for delivery, event in found
        ]
        headers = ("Place#", "Event", "Webhook", "State", "Tries#", "Answer#", "Detail", "Next try")
        console.print_table(headers, rows, empty="No deliveries.")


@webhooks_app.command(epilog="Example: tallystick activation webhooks retry WH-ABCDEF --data DIR")
def retry(
    webhook: WebhookText,
    data: Data,
    place: Annotated[
        list[int] | None, typer.Option("--place", metavar="PLACE", help="Only this delivery; repeatable.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Try what waits or was given up now. Serving processes do it within seconds."""
    from tallystick.activation import dispatch

    with console.opened(data, database, as_json=as_json) as activation:
        now = activation.now()
        count = activation.transact(
            lambda transaction: dispatch.retry(transaction, dispatch.find(transaction, webhook), place, now=now)
        )
        if as_json:
            console.print_json({"retried": count})
        else:
            console.say(f"{count} deliveries are tried again.")


@webhooks_app.command(epilog="Example: tallystick activation webhooks replay WH-ABCDEF --after 1200 --data DIR")
def replay(
    webhook: WebhookText,
    data: Data,
    after: Annotated[int, typer.Option("--after", min=0, metavar="PLACE", help="Send everything behind this place.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Send again what is behind a place of the stream, also what was delivered."""
    from tallystick.activation import dispatch

    with console.opened(data, database, as_json=as_json) as activation:
        activation.transact(
            lambda transaction: dispatch.replay(transaction, dispatch.find(transaction, webhook), after=after)
        )
        if as_json:
            console.print_json({"after": after})
        else:
            console.say(f"Everything behind place {after} is sent again.")


def events(
    data: Data,
    after: Annotated[int, typer.Option("--after", min=0, metavar="PLACE", help="Only what is behind this place.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 100,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind; repeatable.")
    ] = None,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """The stream of events: what happened, in the order in which it became true."""
    from tallystick.activation import dispatch

    with console.opened(data, database, as_json=as_json) as activation:
        activation.dispatcher().place_all()
        found = activation.read(
            lambda transaction: transaction.events.find(after=after, limit=limit, account=account, kinds=kind or ())
        )
        if as_json:
            console.print_json([dispatch.event_view(event) for event in found])
            return
        rows = [
            (
                event.position,
                console.moment(event.at),
                event.kind,
                event.account or "",
                event.data.get("name") or event.data.get("line") or "",
            )
            for event in found
        ]
        console.print_table(("Place#", "At", "Event", "Account", "About"), rows, empty="No events.")


def webhook_view(webhook: Webhook) -> dict[str, Any]:
    """An endpoint for programs. The secret is not in it."""
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "account": webhook.account,
        "kinds": list(webhook.kinds),
        "position": webhook.position,
        "created_at": webhook.created_at,
        "created_by": webhook.created_by,
        "stopped_at": webhook.stopped_at,
        "stopped_why": webhook.stopped_why,
    }


def delivery_view(delivery: Delivery, event: PlacedEvent) -> dict[str, Any]:
    """A delivery for programs."""
    return {
        "webhook_id": delivery.webhook_id,
        "position": delivery.position,
        "event_id": event.event_id,
        "type": event.kind,
        "account": event.account,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "first_at": delivery.first_at,
        "next_at": delivery.next_at if delivery.state == "waiting" else None,
        "last_at": delivery.last_at,
        "status": delivery.status,
        "detail": delivery.detail,
    }
