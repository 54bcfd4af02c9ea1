"""Settings: one table says every name, its kind and its limits; a file and the environment fill it.

``settings.toml`` in the data directory, then the environment on top: ``mail.host`` is ``TALLYSTICK_MAIL_HOST``. What is
secret (passphrases, PINs, passwords) is better in the environment or in a file of its own that a setting names
(``..._file``). Unknown names, other kinds and values out of range are refused, with the place named.
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Final, Literal, Never

from tallystick.activation.core.ports import Enrolment, Policy
from tallystick.activation.files import FileError, load_file
from tallystick.errors import Error
from tallystick.sentences import ENGLISH, _, languages

SETTINGS_FILE: Final = "settings.toml"
ENVIRONMENT_PREFIX: Final = "TALLYSTICK_"
# What commands read beside the settings.
OTHER_VARIABLES: Final = tuple(
    f"{ENVIRONMENT_PREFIX}{name}"
    for name in (
        *("HOME", "KEY_FILE", "NEW_ROOT_PASSPHRASE", "PASSPHRASE", "ROOT_PASSPHRASE", "ROUTE", "STICKS", "TOKEN_FILE"),
        *("TRANSLATIONS", "URL"),
    )
)
_MAIL_ADDRESS: Final = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\".]+(\.[^@\s<>,;\".]+)*")
_HOST_OR_NETWORK: Final = re.compile(r"[A-Za-z0-9._:-]+(/[0-9]{1,3})?")
WAITING_DAYS_MAX: Final = 3650
LOST_PER_YEAR_MAX: Final = 1_000_000
REDACTED: Final = "(set, not shown)"
_SETTINGS_BYTES_MAX: Final = 64 * 1024
_SECRET_BYTES_MAX: Final = 4096

Kind = Literal["text", "number", "flag", "list"]


class SettingsError(Error):
    """A data directory or its settings that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table. ``section`` is empty for what stands at the top of the file."""

    section: str
    name: str
    kind: Kind
    default: str | int | bool | tuple[str, ...] | None
    help: str
    low: int = 0
    high: int = 2**31
    choices: tuple[str, ...] = ()
    is_secret: bool = False

    @property
    def path(self) -> str:
        """How people name it."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()


def _row(path: str, kind: Kind, default: Any, help_: str, **limits: Any) -> Entry:
    section, _other, name = path.rpartition(".")
    return Entry(section=section, name=name, kind=kind, default=default, help=help_, **limits)


TABLE: Final = (
    _row("issuer", "text", None, "Its name, signed into its keys; it cannot be changed."),
    _row(
        "enrolment",
        "text",
        "open",
        "open: who proves an activation ID becomes known; listed: only who was listed beforehand.",
        choices=tuple(Enrolment),
    ),
    _row(
        "waiting_days",
        "number",
        14,
        "How long the rights of a field server that was declared lost wait.",
        high=WAITING_DAYS_MAX,
    ),
    _row(
        "lost_per_year",
        "number",
        3,
        "How many field servers of an account may be declared lost in a rolling year.",
        high=LOST_PER_YEAR_MAX,
    ),
    _row(
        "database", "text", None, "A database URL; without it, the SQLite file in the data directory.", is_secret=True
    ),
    _row("keys.passphrase", "text", None, "Of keys/signing.pem. Better in the environment.", is_secret=True),
    _row("keys.passphrase_file", "text", None, "A file that holds it."),
    _row("keys.pkcs11_module", "text", None, "The library of a hardware security module that holds the signing key."),
    _row("keys.pkcs11_token", "text", None, "The label of the token in it."),
    _row("keys.pkcs11_pin", "text", None, "Its PIN. Better in the environment.", is_secret=True),
    _row("keys.pkcs11_pin_file", "text", None, "A file that holds it."),
    _row(
        "public_url",
        "text",
        None,
        "Where people reach it, like https://licenses.example.com: it stands in invitations. Without it, the address that was called.",
    ),
    _row(
        "trusted_proxies",
        "list",
        ("127.0.0.1", "::1"),
        "Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto hold.",
    ),
    _row("log.format", "text", "text", "text, or json: one object a line.", choices=("text", "json")),
    _row("log.level", "text", "warning", "How much is logged.", choices=("debug", "info", "warning", "error")),
    _row("log.requests", "flag", default=False, help_="Whether every request gets a line (level info)."),
    _row("operations.token", "text", None, "What opens /metrics and /v1/events, as Bearer.", is_secret=True),
    _row("operations.token_file", "text", None, "A file that holds it."),
    _row("events.kept_days", "number", 90, "How long events and deliveries are kept.", low=1, high=36_500),
    _row(
        "webhooks.allow_private",
        "list",
        (),
        "Hosts or networks inside that webhooks may go to, like 10.1.0.0/16 or hooks.example.internal.",
    ),
    _row("webhooks.timeout_seconds", "number", 10, "How long an endpoint may take to answer.", low=1, high=60),
    _row("webhooks.give_up_hours", "number", 72, "For how long a delivery is tried again.", low=1, high=8760),
    _row("mail.host", "text", None, "The SMTP server; without it, no mail is sent."),
    _row("mail.port", "number", 587, "Its port.", low=1, high=65_535),
    _row("mail.security", "text", "starttls", "How the connection is protected.", choices=("starttls", "tls", "none")),
    _row("mail.user", "text", None, "Who signs in there; without it, nobody."),
    _row("mail.password", "text", None, "Of that user. Better in the environment.", is_secret=True),
    _row("mail.password_file", "text", None, "A file that holds it."),
    _row("mail.sender", "text", None, "The address that mails come from."),
    _row("mail.recipients", "list", (), "The addresses that mails go to."),
    _row("mail.returns_days", "number", 7, "After how many days an open return is reported.", low=1, high=3650),
    _row("mail.expiry_days", "number", 30, "How many days before its end a line is reported.", low=1, high=3650),
    _row("mail.language", "text", ENGLISH, "The language of the mails, like de; there has to be a catalog of it."),
    _row("mail.hours", "number", 24, "How many hours apart digests are, at least.", low=1, high=720),
)
_BY_PATH: Final = {entry.path: entry for entry in TABLE}
_URL_SECRETS: Final = {"password", "sslpassword"}
_SECTIONS: Final = {entry.section for entry in TABLE if entry.section}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """Where the signing key is, and what opens it."""

    passphrase: str | None = None
    pkcs11_module: str | None = None
    pkcs11_token: str | None = None
    pkcs11_pin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    format: str = "text"
    level: str = "warning"
    requests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How events are delivered."""

    allow_private: tuple[str, ...] = ()
    timeout_seconds: int = 10
    give_up_hours: int = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """What is reported by mail to whom, and when. ``host`` None: nobody."""

    host: str | None = None
    port: int = 587
    security: str = "starttls"
    user: str | None = None
    password: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    returns_days: int = 7
    expiry_days: int = 30
    language: str = ENGLISH
    hours: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds. ``database`` None: the SQLite file in the data directory."""

    issuer: str
    policy: Policy = field(default_factory=Policy)
    database: str | None = None
    keys: KeySettings = field(default_factory=KeySettings)
    log: LogSettings = field(default_factory=LogSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    mail: MailSettings = field(default_factory=MailSettings)
    events_kept_days: int = 90
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    operations_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """A setting for people: secrets are not shown. ``source`` is the file, the environment's variable, or default."""

    path: str
    value: object
    source: str
    help: str


def load_settings(data: Path, environment: Mapping[str, str]) -> Settings:
    """The file and the environment. Raises ``Error`` (``not-initialised``, ``settings-wrong``)."""
    return parse_settings(read_document(data), environment)


def read_document(data: Path) -> dict[str, Any]:
    """``settings.toml``, not yet looked at. Raises ``Error`` (``not-initialised``, ``settings-wrong``)."""
    path = data / SETTINGS_FILE
    try:
        text = load_file(path, bytes_max=_SETTINGS_BYTES_MAX)
    except FileError as error:
        if error.code != "not-found":
            raise
        raise SettingsError(
            "not-initialised", expected=_("a data directory that init made"), seen=_("no {path}", path=path)
        ) from None
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        refuse("the file", _("TOML"), str(error)[:120])


def parse_settings(document: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from their names and values, strictly. Raises ``SettingsError`` (``settings-wrong``)."""
    found = {path: value for path, (value, _other) in _gather(document, environment or {}).items()}
    issuer = found["issuer"]
    if not issuer:
        refuse("issuer", _("the name of the activation server"), repr(issuer)[:60])
    if found["mail.host"] and not (found["mail.sender"] and found["mail.recipients"]):
        refuse("mail", _("sender and recipients beside host"), _("none of one"))
    if found["mail.language"] not in languages():
        refuse(
            "mail.language", _("one of {languages}", languages=", ".join(sorted(languages()))), found["mail.language"]
        )
    if bool(found["keys.pkcs11_module"]) != bool(found["keys.pkcs11_token"]):
        refuse("keys", _("pkcs11_module and pkcs11_token together"), _("one of them"))

    def section(name: str) -> dict[str, Any]:
        return {entry.name: found[entry.path] for entry in TABLE if entry.section == name}

    return Settings(
        issuer=issuer,
        policy=Policy(
            enrolment=Enrolment(found["enrolment"]),
            waiting_days=found["waiting_days"],
            lost_per_year=found["lost_per_year"],
        ),
        database=found["database"],
        keys=KeySettings(
            passphrase=found["keys.passphrase"] or _secret_in("keys.passphrase_file", found),
            pkcs11_module=found["keys.pkcs11_module"],
            pkcs11_token=found["keys.pkcs11_token"],
            pkcs11_pin=found["keys.pkcs11_pin"] or _secret_in("keys.pkcs11_pin_file", found),
        ),
        log=LogSettings(**section("log")),
        webhooks=WebhookSettings(**section("webhooks")),
        mail=MailSettings(
            **(
                {name: value for name, value in section("mail").items() if name != "password_file"}
                | {"password": found["mail.password"] or _secret_in("mail.password_file", found)}
            )
        ),
        events_kept_days=found["events.kept_days"],
        public_url=_public_url(found["public_url"]),
        trusted_proxies=_networks("trusted_proxies", found["trusted_proxies"]),
        operations_token=found["operations.token"] or _secret_in("operations.token_file", found),
    )


def show_settings(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[ShownSetting]:
    """Every setting with where it comes from, for people: nothing secret. Raises ``SettingsError``."""
    return [
        ShownSetting(
            path=entry.path,
            value=_redacted(entry, value),
            source=source,
            help=entry.help,
        )
        for entry, (value, source) in (
            (_BY_PATH[path], found) for path, found in _gather(document, environment).items()
        )
    ]


def doubts(settings: Settings, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """What cannot be meant, as place, expected and seen: addresses that are none, lists read as one name, unknown variables.

    None of it keeps an activation server from serving, so ``parse_settings`` takes it.
    """
    for path, texts in (
        ("trusted_proxies", settings.trusted_proxies),
        ("webhooks.allow_private", settings.webhooks.allow_private),
    ):
        for text in texts:
            if not _HOST_OR_NETWORK.fullmatch(text):
                yield (
                    path,
                    _("hosts or networks, each a text of its own (in the environment, with commas between)"),
                    repr(text)[:60],
                )
    senders = (settings.mail.sender,) if settings.mail.sender else ()
    for path, texts in (("mail.sender", senders), ("mail.recipients", settings.mail.recipients)):
        for text in texts:
            if not _MAIL_ADDRESS.fullmatch(parseaddr(text)[1]) or text.count("@") != 1:
                yield path, _("a mail address like ops@example.com, each a text of its own"), repr(text)[:60]
    known = [*(entry.variable for entry in TABLE), *OTHER_VARIABLES]
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            nearest = get_close_matches(name, known, 1)
            expected = _("{name} perhaps", name=nearest[0]) if nearest else _("a name that tallystick knows, or none")
            yield name, expected, _("a variable that means nothing")


def format_settings(settings: Settings) -> str:
    """``settings.toml`` as ``init`` writes it, for people to read and change."""
    policy = settings.policy
    lines = [
        "# Settings of a Tallystick activation server. Restart it after a change, and look at it with:",
        "# tallystick activation config check --data DIR. Each can be set in the environment instead: mail.host is",
        "# TALLYSTICK_MAIL_HOST.",
        "# The issuer is signed into its keys and cannot be changed.",
        f"issuer = {json.dumps(settings.issuer, ensure_ascii=False)}",
        "# open: who proves an activation ID becomes known; listed: only who was listed beforehand.",
        f'enrolment = "{policy.enrolment.value}"',
        "# How long the rights of a field server that was declared lost wait before they are available again.",
        f"waiting_days = {policy.waiting_days}",
        "# How many field servers of one account may be declared lost in a rolling year.",
        f"lost_per_year = {policy.lost_per_year}",
    ]
    if settings.database is not None:
        lines.append(f"database = {json.dumps(settings.database, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def check_policy(policy: Policy) -> None:
    """Raises ``SettingsError`` for values out of range."""
    for path, value in (("waiting_days", policy.waiting_days), ("lost_per_year", policy.lost_per_year)):
        _check(_BY_PATH[path], value)


def refuse(place: str, expected: str, seen: str) -> Never:
    """Raises ``SettingsError`` (``settings-wrong``)."""
    raise SettingsError("settings-wrong", expected=_("{place}: {expected}", place=place, expected=expected), seen=seen)


def _gather(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if name in _SECTIONS and isinstance(value, dict):
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[name] = value
    unknown = flat.keys() - _BY_PATH.keys()
    if unknown:
        refuse(min(unknown), _("a name that there is"), _("one that there is not"))
    found: dict[str, tuple[Any, str]] = {}
    for entry in TABLE:
        if entry.variable in environment and entry.path != "issuer":
            found[entry.path] = (_check(entry, _from_text(entry, environment[entry.variable])), entry.variable)
        elif entry.path in flat:
            found[entry.path] = (_check(entry, flat[entry.path]), SETTINGS_FILE)
        else:
            found[entry.path] = (entry.default, "default")
    return found


def _from_text(entry: Entry, text: str) -> Any:
    match entry.kind:
        case "number":
            return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text
        case "flag":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                text.lower(), text
            )
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "text":
            return text


def _check(entry: Entry, value: Any) -> Any:
    seen = REDACTED if entry.is_secret else repr(value)[:60]
    match entry.kind:
        case "text":
            if not isinstance(value, str) or not value:
                refuse(entry.path, " or ".join(entry.choices) or _("a text"), seen)
            if entry.choices and value not in entry.choices:
                refuse(entry.path, " or ".join(entry.choices), seen)
        case "number":
            if type(value) is not int or not entry.low <= value <= entry.high:
                refuse(entry.path, _("a whole number from {low} to {high}", low=entry.low, high=entry.high), seen)
        case "flag":
            if not isinstance(value, bool):
                refuse(entry.path, _("true or false"), seen)
        case "list":
            if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
                refuse(entry.path, _("a list of texts"), seen)
            return tuple(value)
    return value


def _public_url(text: str | None) -> str | None:
    """Scheme and host, and nothing after them: pages are at the top."""
    if text is None:
        return None
    if not re.fullmatch(r"https?://([a-zA-Z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:[0-9]{1,5})?/?", text):
        refuse("public_url", _("an address like https://licenses.example.com, without a path"), repr(text)[:80])
    return text.rstrip("/")


def _networks(path: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            refuse(path, _("addresses like 10.0.0.7, or networks like 10.0.0.0/24"), repr(text)[:60])
    return texts


def _secret_in(path: str, found: Mapping[str, Any]) -> str | None:
    if found[path] is None:
        return None
    try:
        text = load_file(Path(found[path]), bytes_max=_SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except (FileError, UnicodeDecodeError) as error:
        refuse(path, _("a file that can be read"), str(error)[:200])
    if not text:
        refuse(path, _("a file that holds it"), _("an empty one"))
    return text


def _redacted(entry: Entry, value: object) -> object:
    if not entry.is_secret or value is None:
        return list(value) if isinstance(value, tuple) else value
    if entry.path == "database" and isinstance(value, str):
        return re.sub(r"(?<=://)([^@/]*):[^@]*(?=@)", r"\1:***", value)
    return REDACTED


def without_secrets(document: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """``settings.toml`` as it may leave the machine, and what was left out; None where there is nothing to leave out.

    Of a database URL only the password goes. What is left out may still come from the environment.
    """
    kept: dict[str, dict[str, Any]] = {"": {}}
    left_out = []
    for path, (value, source) in _gather(document, {}).items():
        entry = _BY_PATH[path]
        if source != SETTINGS_FILE:
            continue
        public = value
        if entry.is_secret:
            public = _without_password(str(value)) if path == "database" else None
        if public != value:
            left_out.append(path)
        if public is not None:
            kept.setdefault(entry.section, {})[entry.name] = public
    if not left_out:
        return None, []
    lines = [f"# What a backup does not hold; set it again before serving: {', '.join(sorted(left_out))}"]
    for section, values in kept.items():
        lines += [f"[{section}]"] if section else []
        lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n", sorted(left_out)


def _without_password(url: str) -> str:
    """A database URL without its password, wherever it stands."""
    url = re.sub(r"(?<=://)([^@/:]*):[^@]*(?=@)", r"\1", url)
    before, mark, query = url.partition("?")
    parts = [part for part in query.split("&") if part and part.partition("=")[0].lower() not in _URL_SECRETS]
    return before + (mark + "&".join(parts) if parts else "")


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
