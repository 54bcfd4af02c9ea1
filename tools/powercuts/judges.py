"""After the power came back: the party opens, and what was said is so. The real code opens; nothing here repairs."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from powercuts.scenarios import PASSWORD, SETTINGS, state_digest
from tallystick.activation.core import verification
from tallystick.activation.core.ports import Policy
from tallystick.activation.server.instance import initialise, open_activation
from tallystick.administrator.app import open_sealer
from tallystick.administrator.memory.database import open_database
from tallystick.administrator.memory.messages import Mailbag
from tallystick.errors import Error
from tallystick.fieldserver import commissioning, platform, vault


class BrokenPromiseError(Exception):
    """What was said is not so any more."""


def judge_vault(data: Path, said: Sequence[str], all_said: Sequence[str]) -> None:
    """The state is that of the last thing that was said, or of the step that was under way: never older, never mixed."""
    states = [json.loads(line)["state"] for line in all_said]
    try:
        home = platform.load_home(data)
        found = state_digest(vault.Vault(platform.FileDisk(data), home.seed).load())
    except Error as error:
        if said:
            raise BrokenPromiseError(f"it spoke, and now it says {error.code}: {error}") from error
        return
    if not said:  # see the scenario of `init` itself
        return
    allowed = states[len(said) - 1 : len(said) + 1]
    if found not in allowed:
        older = [place for place, state in enumerate(states) if state == found]
        raise BrokenPromiseError(
            f"its state is that of step {older or 'none at all'}; step {len(said) - 1} was spoken of"
        )


def commission(data: Path) -> None:
    """``init``, in this process."""
    commissioning.commission(data, settings=SETTINGS, clock=platform.SystemClock(), random=platform.SystemRandom())


def judge_activation(data: Path, said: Sequence[str], all_said: Sequence[str]) -> None:
    """Every reply that was let out is stored, as it was; what is there is whole steps, in their order; the books add up."""
    if not said:  # see the scenario of `init` itself
        return
    try:
        stored = _stored_replies(data)
        activation = open_activation(data)
    except (Error, sqlite3.Error) as error:
        raise BrokenPromiseError(f"it answered, and now: {error}") from error
    with_answers = [json.loads(line).get("answers", {}) for line in all_said]
    promised = {digest: reply for answers in with_answers[: len(said)] for digest, reply in answers.items()}
    for digest, reply in promised.items():
        if stored.get(digest) != reply:
            raise BrokenPromiseError(
                f"the reply to {digest[:8]} was let out, and is {'gone' if digest not in stored else 'another'}"
            )
    rest = stored.keys() - promised.keys()
    following = set(with_answers[len(said)]) if len(said) < len(with_answers) else set()
    if rest and rest != following - promised.keys():
        raise BrokenPromiseError(f"{len(rest)} replies are there that are no whole step")
    try:
        report = activation.read(verification.verify_books)
    finally:
        activation.close()
    if not report.is_green:
        raise BrokenPromiseError(f"the books: {report.faults[0]}")


def _stored_replies(data: Path) -> dict[str, str]:
    connection = sqlite3.connect(data / "tallystick.sqlite")
    try:
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
        if whole != "ok":
            raise BrokenPromiseError(f"the database: {whole}")
        rows = connection.execute("SELECT digest, reply FROM messages").fetchall()
        return {digest: hashlib.sha256(reply.encode()).hexdigest() for digest, reply in rows}
    finally:
        connection.close()


def _open_or_init(data: Path) -> None:
    try:
        open_activation(data).close()
    except Error:
        _init_again(lambda: initialise(data, issuer="Example Controls", policy=Policy(), database=None).close())


def judge_laptop(data: Path, said: Sequence[str], all_said: Sequence[str]) -> None:
    """What was durable, and all before it, is in the bag."""
    try:
        database = open_database(data)
    except Error as error:
        raise BrokenPromiseError(f"it does not open: {error}") from error
    try:
        kept = {one.digest for one in Mailbag(database).outbound()}
    finally:
        database.close()
    facts = [json.loads(line) for line in said]
    if facts and open_sealer(data).open(facts[0]["sealed"], SETTINGS.name) != PASSWORD:
        raise BrokenPromiseError("the key of a password that was sealed is gone")
    durable = max((place for place, fact in enumerate(facts) if fact["is_durable"]), default=-1)
    missing = {digest for fact in facts[: durable + 1] for digest in fact["kept"]} - kept
    if missing:
        raise BrokenPromiseError(f"{len(missing)} messages were kept for good, and are gone")
    everything: list[str] = [digest for line in all_said for digest in json.loads(line)["kept"]]
    if kept != set(everything[: len(kept)]):
        raise BrokenPromiseError("there is a later message without an earlier one")


def judge_fieldserver_init(data: Path, said: Sequence[str], all_said: Sequence[str]) -> None:
    """Told as done, it is done; before, it is done or can be done again."""
    try:
        home = platform.load_home(data)
        state = vault.Vault(platform.FileDisk(data), home.seed).load()
        for name in (platform.TLS_KEY_FILE, platform.TLS_CERTIFICATE_FILE, platform.PASSWORD_HASH_FILE):
            if not platform.read_file(data / name):
                raise BrokenPromiseError(f"{name} is empty")
    except Error as error:
        if said:
            raise BrokenPromiseError(f"init said that it is done, and now: {error}") from error
        _init_again(lambda: commission(data))
        return
    if said and state.device_id not in "".join(all_said):
        raise BrokenPromiseError("it is another field server")


def judge_activation_init(data: Path, said: Sequence[str], all_said: Sequence[str]) -> None:
    """Told as done, it is done; before, it is done or can be done again."""
    if not said:
        _open_or_init(data)
        return
    try:
        activation = open_activation(data)
    except Error as error:
        raise BrokenPromiseError(f"init said that it is done, and now: {error}") from error
    root = activation.signer.keyset.root_fingerprint
    activation.close()
    if root not in "".join(all_said):
        raise BrokenPromiseError("it has another root")


def _init_again(init: Callable[[], Any]) -> None:
    try:
        init()
    except Error as error:
        raise BrokenPromiseError(f"an interrupted init cannot be run again: {error}") from error


Judge = Callable[[Path, Sequence[str], Sequence[str]], None]
JUDGES: Final[dict[str, Judge]] = {
    "fieldserver-vault": judge_vault,
    "fieldserver-init": judge_fieldserver_init,
    "activation-database": judge_activation,
    "activation-init": judge_activation_init,
    "laptop": judge_laptop,
}
