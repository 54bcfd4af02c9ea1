"""The tables. ``migrations/`` builds them; a test compares the two.

Whatever belongs to an account carries it, so that the tables can be distributed by account. Identifiers compare by
byte on every engine, so that "in id order" means the same to Python, SQLite and PostgreSQL. Moments are Unix seconds.
Every read on the way to a reply goes through a key or an index that does not grow with a field server's history.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID: Final = Text().with_variant(Text(collation="C"), "postgresql")
_RISING: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself

# Whose database this is: one row. A test says that nobody else can use it.
DEPLOYMENT: Final = Table(
    "deployment",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # always 1
    Column("issuer", Text, nullable=False),
    Column("root", _ID, nullable=False),  # its fingerprint
    Column("moved_at", BigInteger),  # since when a copy serves in its place
)

# How long the activation server was in service with a steady clock: one row.
SERVICE_CLOCK: Final = Table(
    "service_clock",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # always 1
    Column("at", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("doubted_at", BigInteger),
)

KINDS: Final = Table(
    "kinds",
    METADATA,
    Column("kind", _ID, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

PRODUCTS: Final = Table(
    "products",
    METADATA,
    Column("sku", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kinds", Text, nullable=False),  # JSON list
    Column("features", Text, nullable=False),  # JSON object: feature to count per unit
    Column("returnable", Boolean, nullable=False),
    Column("one_carry", Boolean, nullable=False),
    Column("engineering", Boolean, nullable=False),
)

ENTITLEMENTS: Final = Table(
    "entitlements",
    METADATA,
    Column("entitlement_id", _ID, primary_key=True),
    Column("account", _ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("reference", _ID),  # how it is called; the id is its key here for ever, and a secret
    Column("current_id", _ID),  # the id that opens it, once the first one was replaced
    Index("ix_entitlements_account", "account", "created_at"),
    Index("ix_entitlements_reference", "reference", unique=True),
    Index("ix_entitlements_current_id", "current_id", unique=True),
)

LINES: Final = Table(
    "lines",
    METADATA,
    Column("line_id", _ID, primary_key=True),
    Column("entitlement_id", _ID, ForeignKey("entitlements.entitlement_id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("account", _ID, nullable=False),
    Column("sku", _ID, ForeignKey("products.sku"), nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("expires_at", BigInteger),
    Column("engineering", Boolean, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("bought", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("returning", BigInteger, nullable=False, quote=True),  # a word of SQL
    Column("quarantined", BigInteger, nullable=False),
    Column("retired", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    Column("seal", Text),
    CheckConstraint('available + held + "returning" + quarantined + retired = bought', name="conserved"),
    CheckConstraint('held >= 0 AND "returning" >= 0 AND quarantined >= 0 AND retired >= 0', name="not_negative"),
    Index("ix_lines_entitlement_id", "entitlement_id", "position"),
    Index("ix_lines_account", "account"),
)

FIELD_SERVERS: Final = Table(
    "field_servers",
    METADATA,
    Column("device_id", _ID, primary_key=True),
    Column("public_key", Text, nullable=False),
    Column("account", _ID),
    Column("kind", Text, nullable=False),
    Column("host_id", _ID, nullable=False),
    Column("name", _ID, nullable=False),
    Column("software", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("spoken_epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("proven", BigInteger, nullable=False),
    Column("outstanding", Text, nullable=False),  # JSON: [[epoch, number, {line: quantity}], ...]
    Column("recovering", BigInteger),
    Column("rolled_back_at", BigInteger),
    Column("speaks", BigInteger, nullable=False, server_default="1"),
    Column("lost_at", BigInteger),
    Column("lost_until", BigInteger),
    Column("waits_until", BigInteger),  # in seconds of service
    Column("first_seen_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
    Column("folded", _ID),  # name and host id, a line each, for searching: domain.text
    Column("host_folded", _ID),  # the host id for comparing
    Index("ix_field_servers_host_folded", "host_folded"),
    Index("ix_field_servers_name", "name"),
    Index("ix_field_servers_account", "account"),
    Index(
        "ix_field_servers_waits_until",
        "waits_until",
        sqlite_where=text("status = 'lost'"),
        postgresql_where=text("status = 'lost'"),
    ),
)

HOLDINGS: Final = Table(
    "holdings",
    METADATA,
    Column("line_id", _ID, ForeignKey("lines.line_id"), primary_key=True),
    Column("device_id", _ID, ForeignKey("field_servers.device_id"), primary_key=True),
    Column("account", _ID),
    Column("held", BigInteger, nullable=False),
    Column("returning", BigInteger, nullable=False, quote=True),
    Column("quarantined", BigInteger, nullable=False),
    Column("since_at", BigInteger, nullable=False),
    Index("ix_holdings_device_id", "device_id"),
    Index(
        "ix_holdings_since_at",
        "since_at",
        sqlite_where=text('"returning" > 0'),
        postgresql_where=text('"returning" > 0'),
    ),
)

ENTRIES: Final = Table(
    "entries",
    METADATA,
    Column("line_id", _ID, ForeignKey("lines.line_id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("account", _ID),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("device_id", _ID),
    Column("cause", Text, nullable=False),
    Column("booked_at", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    Index("ix_entries_booked_at", "booked_at"),
    Index("ix_entries_account", "account", "booked_at"),
)

MESSAGES: Final = Table(
    "messages",
    METADATA,
    Column("digest", _ID, primary_key=True),
    Column("device_id", _ID, nullable=False),  # may be a stranger's, which is refused and never enrolled
    Column("account", _ID),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text),
    Column("detail", Text, nullable=False),
    Column("reply", Text, nullable=False),  # envelopes, one a line
    Column("seal", Text),
    Index("ix_messages_device_id_sequence", "device_id", "sequence", "taken_at"),
)

GRANTS: Final = Table(
    "grants",
    METADATA,
    Column("device_id", _ID, ForeignKey("field_servers.device_id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("account", _ID),
    Column("epoch", BigInteger, nullable=False),
    Column("digest", _ID, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("envelope", Text),
)

# By `jti` first: it is random, and so found at once whoever used it.
PROOFS: Final = Table(
    "proofs",
    METADATA,
    Column("jti", _ID, primary_key=True),
    Column("device_id", _ID, ForeignKey("field_servers.device_id"), primary_key=True),
    Column("digest", _ID, nullable=False),
)

INCIDENTS: Final = Table(
    "incidents",
    METADATA,
    Column("id", _RISING, primary_key=True),
    Column("account", _ID),
    Column("kind", Text, nullable=False),
    Column("device_id", _ID, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("digest", _ID),
    Column("seal", Text),
    Index("ix_incidents_device_id", "device_id"),
    Index("ix_incidents_account", "account", "id"),
)

# How far people are with an incident. Without a row it is open.
INCIDENT_STATES: Final = Table(
    "incident_states",
    METADATA,
    Column(
        "number",
        BigInteger,
        ForeignKey("incidents.id", name="fk_incident_states_number_incidents"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", Text),
    Column("acknowledged_note", Text, nullable=False),
    Column("resolved_at", BigInteger),
    Column("resolved_by", Text),
    Column("resolved_note", Text, nullable=False),
    Column("resolution", Text),
    Column("seal", Text),
)

DECLARATIONS: Final = Table(
    "declarations",
    METADATA,
    Column("device_id", _ID, ForeignKey("field_servers.device_id"), primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("account", _ID),
    Column("reason", Text, nullable=False),
    Column("declared_by", Text, nullable=False),
    Column("override_by", Text),
    Column("line_ids", Text, nullable=False),  # JSON: quantities by line; before they were kept, a list
    Column("undone_at", BigInteger),
    Column("seal", Text),
    Index("ix_declarations_account", "account", "at"),
)

# What is told to others. A unit of work adds one row to the outbox; `storage.events` gives each event in it its position in
# the stream, under a lock, so that positions rise in the order of commits and whoever reads behind a position misses nothing.

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", _RISING, primary_key=True),
    Column("events", Text, nullable=False),  # JSON list
)

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", _ID, nullable=False, unique=True),
    Column("account", _ID),
    Column("kind", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False),  # JSON object
    Column("seal", Text),
    Index("ix_events_at", "at"),
)

# Named numbers: `event-position`, the last position that was given; moments of what is done once in a while.
MARKS: Final = Table(
    "marks",
    METADATA,
    Column("name", _ID, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

WEBHOOKS: Final = Table(
    "webhooks",
    METADATA,
    Column("webhook_id", _ID, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("account", _ID),  # NULL: of every account
    Column("kinds", Text, nullable=False),  # JSON list; empty: every kind
    Column("position", BigInteger, nullable=False),  # events up to it have their deliveries
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("stopped_at", BigInteger),
    Column("stopped_why", Text),
    Column("owner", _ID),  # NULL: the vendor's; else the account whose people made it
    Column("secret_before", LargeBinary),  # signs as well, until a moment
    Column("secret_before_until", BigInteger),
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    Column("webhook_id", _ID, ForeignKey("webhooks.webhook_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("last_at", BigInteger),
    Column("status", BigInteger),  # of the last answer over HTTP
    Column("detail", Text, nullable=False),
    Index(
        "ix_deliveries_next_at",
        "next_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    Index("ix_deliveries_first_at", "first_at"),
)

# What was told by mail, so that each thing is told once.
TOLD: Final = Table(
    "told",
    METADATA,
    Column("subject", _ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("ix_told_at", "at"),
)

ACCOUNTS: Final = Table(
    "accounts",
    METADATA,
    Column("account", _ID, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("folded", _ID),  # domain.text
    Index("ix_accounts_folded", "folded"),
)

PEOPLE: Final = Table(
    "people",
    METADATA,
    Column("person_id", _ID, primary_key=True),
    Column("email", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("account", _ID),
    Column("password", Text),
    Column("totp_secret", Text),
    Column("totp_step", BigInteger, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("invitation", _ID),
    Column("invited_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("invited_by", _ID),  # a person; NULL: a command, or long ago
    Index("ix_people_email", "email"),  # unique in each account, see services.people
    Index("ix_people_account", "account"),
    Index("ix_people_invitation", "invitation"),
    Index("ix_people_invited_by", "invited_by"),
)

SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("digest", _ID, primary_key=True),
    Column("person_id", _ID, ForeignKey("people.person_id"), nullable=False),
    Column("csrf", Text, nullable=False),
    Column("is_whole", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_sessions_person_id", "person_id"),
    Index("ix_sessions_expires_at", "expires_at"),
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("token_id", _ID, primary_key=True),
    Column("digest", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("account", _ID),
    Column("is_read_only", Boolean, nullable=False),
    Column("devices", Text, nullable=False),  # JSON list
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("person_id", _ID),  # whose it is; NULL: made by a command
    Index("ix_tokens_digest", "digest", unique=True),
    Index("ix_tokens_account", "account"),
    Index("ix_tokens_person_id", "person_id"),
)

TRIES: Final = Table(
    "tries",
    METADATA,
    Column("key", _ID, primary_key=True),
    Column("failures", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# QR codes that a person read, until their transfer is whole and a while after.
FRAMES: Final = Table(
    "frames",
    METADATA,
    Column("person_id", _ID, ForeignKey("people.person_id"), primary_key=True),
    Column("transfer", _ID, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("piece", LargeBinary, nullable=False),
    Column("read_at", BigInteger, nullable=False),
    Index("ix_frames_read_at", "read_at"),
)

# The one-time code of the first-run page; there is at most one, and none once somebody can sign in.
SETUP_CODES: Final = Table(
    "setup_codes",
    METADATA,
    Column("digest", _ID, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

TRAIL: Final = Table(
    "trail",
    METADATA,
    Column("number", _RISING, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("account", _ID),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("chain", Text),  # over the chain of the record before and every other column
    Index("ix_trail_account", "account", "number"),
)

# Where a chain ends, so that a tail that was cut off shows: `trail`.
HEADS: Final = Table(
    "heads",
    METADATA,
    Column("name", _ID, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
)

# What was answered to a request that creates something, so that the same request again is answered the same.
REPEATS: Final = Table(
    "repeats",
    METADATA,
    Column("subject", _ID, primary_key=True),
    Column("key", _ID, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
