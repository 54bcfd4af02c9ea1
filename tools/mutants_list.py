"""The seeded errors. Each names what it breaks; `mutants.py` applies them one by one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One error: ``old`` is replaced by ``new`` in ``file``, once. ``world``: explored before seeds are run;
    ``often``: an act that comes often in the seeds; ``seed``: where the hunt begins, one that found it.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    world: str | None = None
    often: str | None = None
    seed: int = 0


ISSUING = "activation/core/issuing.py"
BATCH = "activation/core/batch.py"
JUMPS = "activation/core/jumps.py"
BOOKS = "activation/core/books.py"
RETURNS = "activation/core/interventions.py"
GRANT = "domain/grant.py"
RULES = "domain/rules.py"
ENGINE = "fieldserver/engine.py"
VAULT = "fieldserver/vault.py"
AGENT = "fieldserver/agent.py"
STORE = "simulator/faults.py"

MUTANTS = (
    # The reservation rule
    Mutant(
        name="maximum-is-newest",
        breaks="the reservation rule: what is returning is available at once (credit before proof)",
        file=GRANT,
        old="        for line_id, quantity in grant.quantities.items():\n            most[line_id] = max(most.get(line_id, 0), quantity)",
        new="        most = dict(newest)",
    ),
    Mutant(
        name="forgets-too-much",
        breaks="append: an older grant that is larger on one line is forgotten",
        file=GRANT,
        old="    return all(newer.quantities.get(line_id, 0) >= quantity for line_id, quantity in older.quantities.items())",
        new="    return True",
    ),
    Mutant(
        name="proves-one-too-many",
        breaks="a proof of grant N forgets grant N",
        file=GRANT,
        old="if (grant.epoch, grant.number) >= (epoch, number))",
        new="if (grant.epoch, grant.number) > (epoch, number))",
    ),
    Mutant(
        name="proof-never-counts",
        breaks="applied is not read: what is returning never becomes available (P2)",
        file=ISSUING,
        old="            if number > before.proven:",
        new="            if number > before.proven + 1_000_000_000:",
    ),
    Mutant(
        name="credit-at-the-request",
        breaks="a return is credited when it is asked for, not when it is proven",
        file=ISSUING,
        old="                return self._grant(quantities)\n            case Denied(",
        new='                if request.purpose == "return":\n                    self._keep(outstanding=())\n                return self._grant(quantities)\n            case Denied(',
    ),
    Mutant(
        name="growth-against-held",
        breaks="what is already reserved is not counted: a second activation takes it again",
        file=RULES,
        old="    if growth > 0 and growth > line.balances.available:",
        new="    if growth > 0 and growth > line.balances.available + 1:",
    ),
    Mutant(
        name="last-right-is-refused",
        breaks="what is available can be had, all of it",
        file=RULES,
        old="    if growth > 0 and growth > line.balances.available:",
        new="    if growth > 0 and growth >= line.balances.available:",
    ),
    Mutant(
        name="lines-not-named-vanish",
        breaks="an activation sets the whole set, not the named lines",
        file=RULES,
        old="    after = {**held, **{want.line_id: want.quantity for want in wants}}",
        new="    after = {want.line_id: want.quantity for want in wants}",
    ),
    # Terms
    Mutant(
        name="kind-not-compared",
        breaks="a product is granted to a kind of field server that it is not for",
        file=RULES,
        old="    if not is_among(kind, line.product.kinds):",
        new="    if kind is None:",
    ),
    Mutant(
        name="grows-after-its-end",
        breaks="a line that has expired is granted anew",
        file=RULES,
        old="    if line.expires_at is not None and line.expires_at <= now:",
        new="    if line.expires_at is not None and line.expires_at <= 0:",
        seed=24,
    ),
    Mutant(
        name="grows-while-suspended",
        breaks="a suspended line is granted anew",
        file=RULES,
        old="    if line.suspended:",
        new="    if line.suspended is None:",
        seed=4,
    ),
    Mutant(
        name="suspension-not-kept",
        breaks="a person suspends a line, and it is not",
        file="activation/core/entitlements.py",
        old="        suspended=line.suspended if change.suspended is None else change.suspended,",
        new="        suspended=line.suspended if change.suspended is None else line.suspended,",
    ),
    Mutant(
        name="returned-though-sold-for-good",
        breaks="what cannot be returned is taken back",
        file=RULES,
        old="    if line.product.returnable or want.quantity >= held.get(want.line_id, 0):",
        new="    if line.product.returnable or want.quantity >= 0:",
        seed=13,
    ),
    Mutant(
        name="activated-with-less-though-sold-for-good",
        breaks="an activation with a lower quantity takes back what cannot be returned",
        file=RULES,
        old="        elif not takes_back:",
        new="        elif takes_back:",
    ),
    Mutant(
        name="accounts-mixed",
        breaks="lines of two accounts are granted to one field server",
        file=RULES,
        old="    if len(accounts) > 1:",
        new="    if len(accounts) > 2:",
        often="sell",
    ),
    Mutant(
        name="grant-never-ends",
        breaks="a grant does not say when its line ends",
        file=BOOKS,
        old="            expires=line.expires_at,",
        new="            expires=None,",
    ),
    Mutant(
        name="one-carry-always",
        breaks="a grant allows one carry for a product whose return must be confirmed",
        file=BOOKS,
        old="            one_carry=line.product.one_carry and line.product.returnable,",
        new="            one_carry=line.product.returnable,",
    ),
    Mutant(
        name="one-carry-not-asked",
        breaks="a field server gives up in one carry what must be confirmed",
        file=ENGINE,
        old="        kept = [license_.line_id for license_ in state.licenses if not license_.one_carry]",
        new="        kept = [license_.line_id for license_ in state.licenses if license_.quantity < 0]",
    ),
    # Whoever was rolled back or cloned is judged again
    Mutant(
        name="told-rollback-noted-for-ever",
        breaks="a rollback that was told and fenced long ago is an accusation in every message",
        file=ISSUING,
        old="        if told is None or told == before.rolled_back_at:",
        new="        if told is None:",
        often="roll-back",
    ),
    # Order and idempotence at the activation server
    Mutant(
        name="digest-ignored",
        breaks="a repeated message is decided again (P4)",
        file=BATCH,
        old="self.grant_digests = past.answers, past.sequences, past.grants",
        new="self.grant_digests = {}, past.sequences, past.grants",
    ),
    Mutant(
        name="fork-not-detected",
        breaks="a sequence used by another message is taken (P7)",
        file=ISSUING,
        old="        if used_by is not None or self._is_impossible_order(before):\n            return self._fork(before)",
        new="        if False:\n            return self._fork(before)",
    ),
    Mutant(
        name="impossible-order-taken",
        breaks="a clone's relinquish credits what its twin holds",
        world="rollback",
        file=ISSUING,
        old="        if used_by is not None or self._is_impossible_order(before):\n            return self._fork(before)\n        if late:",
        new="        if used_by is not None:\n            return self._fork(before)\n        if late and request.epoch == before.epoch:",
    ),
    Mutant(
        name="superseded-decided",
        breaks="an overtaken message is decided all the same",
        file=ISSUING,
        old="        if late:\n            return self._superseded(before)\n        self._enter_epoch(before)",
        new="        self._enter_epoch(before)",
    ),
    Mutant(
        name="late-epoch-accused",
        breaks="a delayed message of an older epoch is an accusation (P7, false)",
        file=ISSUING,
        old="            if late:\n                return self._superseded(before)\n            return self._fence",
        new="            return self._fence",
    ),
    Mutant(
        name="epoch-does-not-void",
        breaks="a relinquish credits nothing (P2)",
        file=ISSUING,
        old="for grant in before.outstanding if grant.epoch >= request.epoch),",
        new="for grant in before.outstanding),",
    ),
    Mutant(
        name="rollback-not-named",
        breaks="a lower applied grant is believed without a word",
        file=ISSUING,
        old="        if number < before.proven:\n            self.books.note(",
        new="        if number < before.proven - 1_000_000_000:\n            self.books.note(",
        often="roll-back",
        seed=43,
    ),
    Mutant(
        name="older-epoch-not-fenced",
        breaks="a message of an older epoch is decided as if it were of ours",
        file=ISSUING,
        old="        if request.epoch < before.epoch:\n            if late:",
        new="        if request.epoch < before.epoch - 1_000_000:\n            if late:",
    ),
    Mutant(
        name="hold-does-not-hold",
        breaks="two copies go on while a person decides",
        file=ISSUING,
        old="        if before.status is Status.HOLD:\n            self._keep(",
        new="        if False:\n            self._keep(",
    ),
    Mutant(
        name="released-without-a-new-epoch",
        breaks="after a hold the copies are not fenced",
        file=RETURNS,
        old="status=Status.ACTIVE, epoch=raise_epoch(field_server))",
        new="status=Status.ACTIVE)",
    ),
    Mutant(
        name="lost-is-available-at-once",
        breaks="the quarantine: a field server declared lost may be alive",
        file=BOOKS,
        old="        return {line_id: Reserved(quarantined=kept.held + kept.returning) for line_id, kept in reserved.items()}",
        new="        return {}",
    ),
    Mutant(
        name="lost-keeps-its-epoch",
        breaks="one that is declared lost is not fenced when it comes back",
        file=RETURNS,
        old="        status=Status.LOST,\n        epoch=raise_epoch(field_server),",
        new="        status=Status.LOST,\n        epoch=field_server.epoch,",
        seed=6,
    ),
    # Books
    Mutant(
        name="entry-forgotten",
        breaks="the ledger does not show every booking (P5)",
        file=BOOKS,
        old="        self.changes.entries.append(entry)\n",
        new="        if len(self.changes.entries) < 1:\n            self.changes.entries.append(entry)\n",
    ),
    Mutant(
        name="number-not-raised",
        breaks="two grants with one number",
        file=BOOKS,
        old="        number = field_server.number + 1\n",
        new="        number = max(1, field_server.number)\n",
    ),
    Mutant(
        name="confirm-not-asked",
        breaks="a return is never proven by itself (P2)",
        file=BOOKS,
        old="            confirm=confirm or any(kept.returning for kept in after.reserved().values()),",
        new="            confirm=False,",
    ),
    # Who may say what
    Mutant(
        name="proof-not-checked",
        breaks="an activation needs no secret (P3)",
        file=ISSUING,
        old="            is_proven = line is not None and messages.is_proof_valid(\n",
        new="            is_proven = line is not None or messages.is_proof_valid(\n",
        seed=5,
    ),
    Mutant(
        name="aud-not-checked",
        breaks="a message for another activation server is taken",
        file="activation/core/reading.py",
        old="    if request.aud != keyset.issuer:",
        new="    if request.aud == 0:",
        seed=58,
    ),
    Mutant(
        name="iss-not-checked",
        breaks="anybody speaks for any field server (P3)",
        file="protocol/messages.py",
        old="    if request.iss != verified.key.thumbprint:",
        new="    if request.iss == verified.key.x:",
        seed=6,
    ),
    Mutant(
        name="signature-not-checked",
        breaks="altered envelopes are believed (P3)",
        file="protocol/envelope.py",
        old="    except BadSignatureError:  # or a key that is no point of the curve, or one of the few that fit everything\n        raise",
        new="    except BadSignatureError:\n        return Verified(_TOKEN, compact=envelope.compact, typ=envelope.typ, payload=envelope.payload, key=key)\n        raise",
        seed=37,
    ),
    Mutant(
        name="sub-not-checked",
        breaks="a field server takes a grant that is for another one",
        file=ENGINE,
        old="    if reply.sub != state.device_id:",
        new="    if reply.sub == 0:",
    ),
    Mutant(
        name="root-not-compared",
        breaks="a stranger's keyset is taken",
        file="protocol/keys.py",
        old="    if keyset.root == have.root or (keyset.issuer == have.issuer and (is_next or is_earlier)):",
        new="    if keyset.issuer == have.issuer or is_next or is_earlier:",
        seed=8,
    ),
    # The field server
    Mutant(
        name="older-grant-taken",
        breaks="a grant that is older than the one in force is taken",
        file=ENGINE,
        old="    return (grant.epoch, grant.number) > (state.epoch, 0 if state.applied is None else state.applied.number)",
        new="    return grant.epoch >= state.epoch",
    ),
    Mutant(
        name="older-epoch-taken",
        breaks="a grant of an epoch that was given up is taken",
        file=ENGINE,
        old="    return (grant.epoch, grant.number) > (state.epoch, 0 if state.applied is None else state.applied.number)",
        new="    return grant.number > (0 if state.applied is None else state.applied.number)",
    ),
    Mutant(
        name="epoch-not-raised",
        breaks="relinquish keeps its epoch, so that older grants come back",
        file=ENGINE,
        old="        state = replace(state, epoch=state.epoch + 1, applied=None, final=wish.is_final)",
        new="        state = replace(state, applied=None, final=wish.is_final)",
    ),
    Mutant(
        name="relinquish-keeps-the-grant",
        breaks="it says that it holds nothing, and holds it",
        file=ENGINE,
        old="        state = replace(state, epoch=state.epoch + 1, applied=None, final=wish.is_final)",
        new="        state = replace(state, epoch=state.epoch + 1, final=wish.is_final)",
    ),
    Mutant(
        name="outbox-cleared-too-far",
        breaks="a reply clears messages that it does not answer",
        file=ENGINE,
        old="        rest = tuple(waiting for waiting in state.outbox if waiting.sequence > answered.sequence)",
        new="        rest = ()",
    ),
    Mutant(
        name="seen-ignored",
        breaks="a rolled-back field server never finds out (P7)",
        file=ENGINE,
        old="    is_ahead = reply.seen > state.sequence\n",
        new="    is_ahead = False\n",
        seed=4,
    ),
    Mutant(
        name="confirm-not-written",
        breaks="the proof of a return is not written when it is applied",
        file=ENGINE,
        old="        if reply.confirm:\n",
        new="        if False:\n",
    ),
    # Durability
    Mutant(
        name="spoken-before-saved",
        breaks="a message is let out that a power cut takes back",
        file=AGENT,
        old="        if after is not before:\n            self._vault.save(after)",
        new="        if after is not before and len(after.outbox) <= len(before.outbox):\n            self._vault.save(after)",
    ),
    Mutant(
        name="no-fsync",
        breaks="a saved state is in the cache only",
        file=VAULT,
        old="            self._disk.write(name, data)\n            self._disk.sync(name)\n        except OSError as error:\n            self._spoil(name)",
        new="            self._disk.write(name, data)\n        except OSError as error:\n            self._spoil(name)",
    ),
    Mutant(
        name="no-fsync-at-load",
        breaks="what a killed process wrote is spoken and may still be lost",
        file=VAULT,
        old="            self._disk.sync(slot.name)\n",
        new="            pass\n",
        seed=30,
    ),
    Mutant(
        name="single-slot",
        breaks="a torn write leaves nothing",
        file=VAULT,
        old="        name = SLOTS[0] if newest is None or newest.name == SLOTS[1] else SLOTS[1]\n",
        new="        name = SLOTS[0]\n",
        seed=22,
    ),
    Mutant(
        name="torn-slot-believed",
        breaks="a slot is read without its checksum",
        often="rot",
        file=VAULT,
        old='not hmac.compare_digest(mac, hmac.digest(self._key, data[:end], "sha256"))',
        new="len(mac) != _MAC_BYTES",
    ),
    Mutant(
        name="reply-before-commit",
        breaks="a reply leaves that no commit stands behind (a store that lies, for the contract of Store)",
        file=STORE,
        old="        self.tables = draft\n        self.journal += transaction.saved\n",
        new="        if self.fault is None and len(transaction.saved) and len(transaction.saved[0].messages) > 1:\n            return result\n        self.tables = draft\n        self.journal += transaction.saved\n",
    ),
    # After a restore
    Mutant(
        name="restore-believes-old-messages",
        breaks="a delayed message is answered with what was returned since",
        file=ISSUING,
        old="        if late and (before.recovering is not None or",
        new="        if late and (before.recovering == 0 or",
        seed=4,
    ),
    Mutant(
        name="restore-without-freeze",
        breaks="rights that were given out after the backup are given out again",
        file=RETURNS,
        old="            books.keep_line(replace(line, frozen=True))",
        new="            books.keep_line(replace(line, frozen=False))",
        often="restore",
        seed=29,
    ),
    Mutant(
        name="restore-without-jump",
        breaks="numbers that were given out after the backup are given out again",
        file=JUMPS,
        old="        number=max(field_server.number + NUMBER_JUMP, now * 1000),\n"
        "        sequence=max(field_server.sequence + NUMBER_JUMP, now * 1000),\n",
        new="",
        world="restored",
    ),
    Mutant(
        name="restore-leaves-epochs",
        breaks="a fence of an epoch that was raised and forgotten is taken after the restore, declared lost or on hold",
        world="lost-restored",
        file=JUMPS,
        old="    epoch = max(raise_epoch(field_server), now * STEPS_PER_SECOND * EPOCH_STEP)",
        new="    epoch = field_server.epoch + 1",
    ),
    Mutant(
        name="listed-one-is-not-jumped",
        breaks="a grant that a restore made us forget is taken by one that was listed since",
        world="listed-restored",
        file=ISSUING,
        old="        if listed is not None and listed.recovering is not None:\n"
        "            enrolled = enrolled.changed(\n"
        "                epoch=max(listed.epoch, request.epoch),\n"
        "                number=listed.number,\n"
        "                sequence=listed.sequence,\n"
        "                recovering=listed.recovering,\n"
        "            )\n"
        "        elif is_ours or",
        new="        if listed is not None:\n            pass\n        elif is_ours or",
    ),
    Mutant(
        name="relinquish-undone-by-a-fence",
        breaks="who says that it holds nothing gets back what it gave up",
        file=ISSUING,
        old="        return self._grant(self.field_server.intended if request.applied else {}, confirm=True)",
        new="        return self._grant(before.intended, confirm=True)",
        seed=255,
    ),
    Mutant(
        name="adoption-forgets-the-fence",
        breaks="a fence on its way is not reserved when an older grant is adopted",
        often="restore",
        file=ISSUING,
        old="outstanding=(adopted, *newer)",
        new="outstanding=(adopted,)",
        seed=226,
    ),
)
