"""Durable storage on SQLite and PostgreSQL: all SQL of the activation server is here."""

from tallystick.activation.storage.checking import verify_database
from tallystick.activation.storage.copying import check_not_moved, copy_database
from tallystick.activation.storage.deployment import Deployment
from tallystick.activation.storage.dialects import DatabaseError
from tallystick.activation.storage.events import EventTables, PlacedEvent, Webhook, WebhookDelivery
from tallystick.activation.storage.incidents import NumberedIncident
from tallystick.activation.storage.pruning import Pruned, prune
from tallystick.activation.storage.schema import migrate
from tallystick.activation.storage.scoped import HistoryCursor
from tallystick.activation.storage.store import SqlStore, migrate_database, open_store
from tallystick.activation.storage.transaction import SqlTransaction

__all__ = [
    "DatabaseError",
    "Deployment",
    "EventTables",
    "HistoryCursor",
    "NumberedIncident",
    "PlacedEvent",
    "Pruned",
    "SqlStore",
    "SqlTransaction",
    "Webhook",
    "WebhookDelivery",
    "check_not_moved",
    "copy_database",
    "migrate",
    "migrate_database",
    "open_store",
    "prune",
    "verify_database",
]
