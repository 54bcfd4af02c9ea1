"""Runs the rules of the conformance kit over agents that were made wrong on purpose: one text replaced, in a process of its own.

A program: it prints, for each mistake, the rules that found it. It imports nothing of ours by itself, so that every process imports the
modules with its own mistake in them; what is not ours is imported once, before.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path

import msgspec  # noqa: F401 - once for all
import nacl.bindings  # noqa: F401 - once for all

ENGINE, KEYS, ENVELOPE, MESSAGES, TALLY = (
    "tallystick.fieldserver.engine",
    "tallystick.protocol.keys",
    "tallystick.protocol.envelope",
    "tallystick.protocol.messages",
    "tallystick.protocol.tallyfile",
)
NOW = 1_800_000_000
TAKEN = "    is_taken = isinstance(reply, Grant) and _is_newer(reply, before)\n"
NEWER = "    return (grant.epoch, grant.number) > (state.epoch, 0 if state.applied is None else state.applied.number)\n"
UNSIGNED = (
    "        crypto_sign_open(_strict_base64url(signature) + signed, _raw(key.x))\n",
    "        _strict_base64url(signature)\n",
)
BY_ANYBODY = ("            if message.kid == public.thumbprint:\n", "            if message:\n")

# For each rule the mistake that breaks it: modules, and what is replaced in them.
WRONG: dict[str, list[tuple[str, str, str]]] = {
    "message-says-what-is-in-force": [(ENGINE, "        applied=_applied_claim(state),\n", "        applied=None,\n")],
    "sequence-rises-by-one": [(ENGINE, "    sequence = state.sequence + 1\n", "    sequence = state.sequence + 2\n")],
    "outbox-is-the-same-every-time": [
        (TALLY, '        yield envelope.encode("ascii") + b"\\n"\n', '        yield envelope.encode("ascii") + b"\\n" * (globals().__setitem__("n", globals().get("n", 0) + 1) or globals()["n"])\n')
    ],
    "same-wish-is-the-same-message": [(ENGINE, "    if state.outbox and _says(state.outbox[-1], wish, state):\n", "    if state.outbox and state.final:\n")],
    "activation-has-its-proof": [(ENGINE, "want.activation_id, state.device_id, jti)", "want.activation_id, state.device_id, jti[::-1])")],
    "return-names-end-states": [
        (ENGINE, "LineWant(line=want.line_id, quantity=want.quantity) for want in lowered", "LineWant(line=want.line_id, quantity=want.quantity + 1) for want in lowered")
    ],
    "relinquish-raises-the-epoch": [(ENGINE, "epoch=state.epoch + 1, applied=None,", "epoch=state.epoch + 2, applied=None,")],
    "lower-epoch-is-stale": [(ENGINE, NEWER, "    return grant.number > (0 if state.applied is None else state.applied.number)\n")],
    "one-carry-false-is-kept": [(ENGINE, "        if kept:\n", "        if not kept and state.final:\n")],
    "newer-grant-is-taken": [(ENGINE, TAKEN, TAKEN[:-1] + " and reply.number % 2 == 0\n")],
    "unasked-grant-is-taken": [(ENGINE, TAKEN, TAKEN[:-1] + " and reply.request is not None\n")],
    "older-grant-is-stale": [(ENGINE, NEWER, "    return grant.epoch >= state.epoch\n")],
    "same-grant-again-is-fine": [
        (ENGINE, "state.applied.digest == digest:", 'state.applied.digest == "":'),
        (ENGINE, NEWER, NEWER.replace(" > ", " >= ")),
    ],
    "higher-epoch-is-followed": [(ENGINE, "applied=applied, epoch=reply.epoch,", "applied=applied, epoch=state.epoch,")],
    "reply-clears-all-before": [
        (ENGINE, "for waiting in state.outbox if waiting.sequence > answered.sequence)\n", "for waiting in state.outbox if waiting.digest != answered.digest)\n")
    ],
    "later-messages-wait-on": [(ENGINE, "for waiting in state.outbox if waiting.sequence > answered.sequence)\n", "for waiting in ())\n")],
    "stale-reply-clears": [(ENGINE, TAKEN, TAKEN + '    if isinstance(reply, Grant) and not is_taken:\n        return state, LineEffect.STALE, None, ""\n')],
    "confirm-is-written": [(ENGINE, "        if reply.confirm:\n", "        if reply.confirm and state.final:\n")],
    "unknown-grant-is-attached-once": [(ENGINE, "    return all(waiting.claims().grant != state.applied.compact", "    return True or all(waiting.claims().grant != state.applied.compact")],
    "overtaken-wish-is-asked-about": [(ENGINE, "    elif answered is not None and _is_overtaken(before, answered):\n", "    elif answered is not None and state.final:\n")],
    "rollback-is-reported": [(ENGINE, "state.rolled_back_at if is_restored else now", "state.rolled_back_at")],
    "restore-is-answered-with-the-grant": [(ENGINE, "state.applied.compact if is_restored and", "state.applied.compact if state.final and")],
    "other-device-is-not-taken": [(ENGINE, "    if reply.sub != state.device_id:\n", "    if not reply.sub:\n")],
    "wrong-signature-is-not-taken": [(ENVELOPE, *UNSIGNED)],
    "stranger-is-not-taken": [(ENVELOPE, *UNSIGNED), (KEYS, *BY_ANYBODY)],
    "other-issuer-is-not-taken": [(KEYS, "        if issuer != self.issuer:\n", "        if not issuer:\n")],
    "key-out-of-its-time-is-not-taken": [(KEYS, "            if key.valid_from <= issued_at and (", "            if key or (")],
    "root-signs-no-grants": [
        (KEYS, "        for key in self.keys:\n            public", "        for key in (*self.keys, SigningKey(jwk=Jwk(**self.root.jwk), valid_from=0)):\n            public")
    ],
    "name-twice-is-not-taken": [(ENVELOPE, "    if len(found) != len(pairs):\n", "    if len(found) > len(pairs):\n")],
    "unknown-claim-is-not-taken": [(MESSAGES, "kw_only=True, forbid_unknown_fields=True, omit_defaults=True", "kw_only=True, omit_defaults=True")],
    "fraction-is-not-taken": [(ENVELOPE, "        parse_float=_no_float,\n", "        parse_float=lambda text: int(float(text)),\n")],
    "respelled-signature-is-not-taken": [(ENVELOPE, "    if rest and _base64url(", "    if not data and _base64url(")],
    "good-lines-go-through": [(TALLY, "        line = line.removeprefix(_BYTE_ORDER_MARK)", "        line = line.removeprefix(b'#')")],
    "keys-may-stand-behind": [(ENGINE, "    turns = {KEYS: 0, GRANT: 1}\n", "    turns = {KEYS: 2, GRANT: 1}\n")],
    "newer-keyset-counts": [(ENGINE, "    if keyset.version <= have.version:\n", "    if keyset.version > 2:\n")],
    "older-keyset-is-stale": [(ENGINE, "    if keyset.version <= have.version:\n", "    if keyset.version < 0:\n")],
    "other-root-is-not-taken": [(KEYS, "    raise _root_differs(have.root, keyset.root)\n", "    return keyset\n")],
    "forged-keyset-is-not-taken": [(KEYS, "    envelope.verify(message, named)\n", "")],
    "removed-key-is-asked-about": [(ENGINE, 'if error.code != "key-unknown" or not', 'if error.code == "key-unknown" or not')],
    "handover-is-followed": [(KEYS, "    is_next = any(", "    is_next = bool(keyset.handovers) or any(")],
    "final-takes-nothing": [(ENGINE, "    if state.final:\n        return False\n", "")],
}  # fmt: skip


class Mistake(importlib.abc.MetaPathFinder):
    """Finds the modules of one mistake and gives them with it."""

    def __init__(self, mistake: list[tuple[str, str, str]], source: Path) -> None:
        self.mistake = mistake
        self.source = source

    def find_spec(self, fullname, path=None, target=None):
        if not any(module == fullname for module, _old, _new in self.mistake):
            return None
        return importlib.machinery.ModuleSpec(fullname, Loader(self.mistake, self.source), origin=fullname)


class Loader(importlib.abc.Loader):
    """Runs the changed text."""

    def __init__(self, mistake: list[tuple[str, str, str]], source: Path) -> None:
        self.mistake = mistake
        self.source = source

    def exec_module(self, module) -> None:
        file = self.source.joinpath(*module.__name__.split(".")).with_suffix(".py")
        module.__file__ = str(file)
        text = file.read_text("utf-8")
        for name, old, new in self.mistake:
            if name == module.__name__:
                if text.count(old) != 1:
                    raise ValueError(f"{text.count(old)} places in {name} read {old!r}")
                text = text.replace(old, new)
        exec(compile(text, str(file), "exec"), module.__dict__)


def found(mistake: list[tuple[str, str, str]], source: Path) -> dict[str, str]:
    """Which rules find it, and what they see."""
    sys.meta_path.insert(0, Mistake(mistake, source))
    from support.engines import EngineFieldServer
    from tallystick.conformance import rules
    from tallystick.conformance.playing import BrokenError, Play
    from tallystick.errors import Error

    play = Play(EngineFieldServer(now=NOW), now=NOW)
    seen = {}
    try:
        rules.begin(play)
    except (BrokenError, Error) as error:
        seen["begin"] = str(error)
    for outcome in rules.run(play):
        if outcome.broken is not None:
            seen[outcome.rule.name] = outcome.broken
    return seen


def main() -> None:
    source = Path(sys.argv[1])
    for name, mistake in {"": [], **WRONG}.items():
        if os.fork() == 0:
            try:
                result = found(mistake, source)
            except BaseException as error:  # noqa: BLE001 - the parent has its own work to do
                result = {"error": repr(error)}
            sys.stdout.write(json.dumps([name, result]) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main()
