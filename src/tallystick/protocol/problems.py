"""Every stable code, once: what it means, what was expected, what to do next, and its HTTP status.

``docs/errors.md`` is generated from this table. A refusal on the wire, a problem over HTTP (RFC 9457) and a sentence
on standard error all come from it, so that one fault reads the same wherever it is met.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tallystick.errors import Error, InvariantError
from tallystick.sentences import N_, Sentence, _


class WireError(Error):
    """Untrusted bytes that are not what they should be. Parsers raise this family and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row: ``code`` never changes its meaning; ``status`` is for HTTP only."""

    code: str
    status: int
    title: str
    expected: str
    next_step: str


def _row(code: str, status: int, title: str, expected: str, next_step: str, page: str | None = None) -> Problem:
    """All texts are marked by standing here; ``page`` is the next step of a page, where it differs."""
    step = Sentence(next_step, {}, page=page)
    return Problem(code=code, status=status, title=_(title), expected=_(expected), next_step=step)


# One row, two lines: a table that people read. The formatter would make it six.
# fmt: off
PROBLEMS: tuple[Problem, ...] = (
    # Bytes
    _row("line-too-long", 413, "A line is too long", "an envelope of at most 64 KiB on each line",
         "Carry the file again as it was saved; a program that joins lines breaks it."),
    _row("not-text", 422, "Not a tally file", "UTF-8 text, one envelope a line",
         "Choose the .tally file itself, not an archive, a picture or a web page."),
    _row("file-packed", 422, "A packed file", "the .tally file itself",
         "Unpack it, then choose the .tally file that is in it."),
    _row("file-mail", 422, "A mail", "the file that is attached to the mail",
         "Save what is attached to the mail, and choose that file."),
    _row("file-wrapped", 422, "Lines that were broken", "each envelope whole on its line",
         "Send the file attached to a mail, not as its text; from where it came it can be had again."),
    _row("envelope-malformed", 422, "Not an envelope", "one compact JWS: three base64url parts joined by dots",
         "Carry the file again: this line was cut or altered on the way. The other lines are not affected."),
    _row("header-refused", 422, "A header that is not accepted", "an EdDSA (Ed25519) header with typ and kid or jwk only",
         "Nothing of this line can be used. If it came from Tallystick, update the party that reads it."),
    _row("signature-wrong", 422, "The signature does not fit", "the signature of the party that the message names",
         "Carry the file again: this line was altered on the way, or made by a stranger."),
    _row("kind-unexpected", 422, "A message of another kind", "a message kind that this party takes",
         "Deliver it to the other party: requests go to the activation server, everything else to field servers."),
    _row("claims-malformed", 422, "Claims that do not fit", "exactly the claims of the message kind, within their limits",
         "Update the older of the two parties; if the versions agree, report this line."),
    _row("key-unknown", 422, "Signed with a key that is not known", "a key of the current keyset",
         "Deliver the activation server's keys first (Device Administrator does it with every sync), then this again."),
    _row("issuer-wrong", 422, "For another activation server", "a message for, or from, this activation server",
         "Carry it to the activation server that it names."),
    _row("device-wrong", 422, "For another field server", "a message for this field server",
         "Deliver it to the field server that it names; Device Administrator sorts mixed files by itself."),
    _row("body-too-large", 413, "Too large", "a request within the documented limit",
         "Send it in smaller parts; a tally file may be split between any two lines."),
    _row("json-malformed", 422, "Not the JSON that was expected", "JSON without duplicate or unknown names",
         "Correct the request as described in the API reference."),
    _row("field-wrong", 422, "A field that is not as documented", "fields of the request as documented",
         "Correct or leave out the field that `pointer` names: the API reference lists them. Nothing was done."),
    _row("query-wrong", 422, "A parameter that is not as documented", "parameters of the request as documented",
         "Correct or leave out the named parameter: the API's openapi.json lists them. Nothing was done."),
    # QR codes
    _row("frame-torn", 422, "Not a whole code", "the whole text of a QR code that Tallystick shows",
         "Read this code once more; what was read before stays."),
    _row("frame-version", 422, "A code of another version", "a code of a version that this party reads",
         "Update the older of the two parties, or carry a file."),
    _row("frame-contradicts", 409, "Two codes that contradict each other", "codes of one transfer that fit together",
         "Press Forget at that transfer, then read its codes again; if it comes again, carry a file."),
    _row("frames-missing", 409, "Codes are missing", "all codes of the transfer",
         "Show the missing numbers on the other screen and read them; the order does not matter."),
    _row("frames-differ", 422, "The codes are not what they should be together", "the content that the transfer names",
         "Press Forget at that transfer, then read its codes again; if it comes again, carry a file."),
    _row("frames-too-many", 413, "Too much for QR codes", "a few messages, and a few transfers at the same time",
         "Choose fewer field servers, press Forget at transfers that nobody goes on with, or carry a file."),
    _row("photo-unreadable", 422, "No code in this photograph", "a sharp JPEG or PNG picture with at least one whole code",
         "Photograph the code again, straight, near and without reflections; or use the camera, or type the text."),
    _row("photos-not-installed", 501, "Photographs are not read here", "the optional part that reads photographs",
         "Use the camera or type the text; who runs this program installs tallystick[photos]."),
    # The log
    _row("note-malformed", 422, "Not a signed note", "a signed note: a text, an empty line, and lines that sign it",
         "Get the file again as it was saved; a program that changes line ends or joins lines breaks it."),
    _row("note-key-malformed", 422, "Not a key of a log or a witness", "a key on one line: NAME+ID+KEY",
         "Copy the whole line from whoever runs the log or the witness."),
    _row("note-signature-wrong", 422, "Not signed by the key that was named", "a signature by a key that you trust, and that fits",
         "Get it again. If it is the same, keep it and compare the key with whoever runs the log: somebody altered it, or the key is another."),
    _row("checkpoint-malformed", 422, "Not a checkpoint", "a checkpoint: lines for origin, size and root",
         "Get it again from the log; if it is the same, whoever runs the log has to mend it."),
    _row("checkpoint-of-another-log", 409, "A checkpoint of another log", "a checkpoint of the log that was asked about",
         "Check which log you asked: a checkpoint says nothing about another log."),
    _row("checkpoint-not-witnessed", 409, "Not enough witnesses", "a checkpoint that enough witnesses have cosigned",
         "Get a newer checkpoint; if witnesses are still missing, ask them what they saw."),
    _row("log-proof-malformed", 422, "Not a proof", "a .tlog-proof file as it was made",
         "Get the file again as it was saved."),
    _row("log-proof-wrong", 409, "The proof does not fit", "a proof that leads from what was logged to the root of the checkpoint",
         "Check that file and proof belong together, and get the proof again. If it stays wrong, keep both: they show that the log does not have it."),
    _row("tile-path-malformed", 404, "Not a tile", "the path of a tile, as in docs/protocol/log.md",
         "Ask for a path that follows from the size of a checkpoint."),
    _row("tile-wrong", 409, "A tile that does not fit", "tiles that lead to the root of the checkpoint",
         "Get the tiles again. If they stay wrong, keep them with the checkpoint: they show that the log serves something else than it signed."),
    # Identifiers
    _row("activation-id-mistyped", 422, "Not an activation ID", "an activation ID as printed",
         "Compare it with the print, symbol by symbol; one symbol is wrong or missing."),
    _row("entitlement-id-mistyped", 422, "Not an entitlement ID", "an entitlement ID as printed",
         "Compare it with the print, symbol by symbol; one symbol is wrong or missing."),
    _row("line-id-mistyped", 422, "Not a line id", "the eight symbols of a line id",
         "Copy the line id from the table of lines."),
    _row("quantity-wrong", 422, "Not a quantity", "a whole number from 0 to 1,000,000,000",
         "Write LINE=QUANTITY, for example 7K3M9Q2A=2.",
         N_("Write a whole number.")),
    # Refusals by the activation server
    _row("not-enrolled", 403, "A field server that is not known here", "a field server that is enrolled, or proves an activation ID",
         "Activate a license on it with its activation ID, or have it listed by the people who run the activation server."),
    _row("host-id-taken", 409, "Another field server has this host id", "a host id that no other field server in service has",
         "If this replaces the other one, declare that one lost; if not, one of the two is a copy. Then send this again."),
    _row("on-hold", 409, "On hold", "a field server that is not on hold",
         "A person at the activation server looks at its incidents and releases it; nothing here is lost meanwhile."),
    _row("fork", 409, "Two copies of one field server", "a sequence number that was not used by another message",
         "Find the second copy (a clone or a restored backup) and stop it; then have the hold released."),
    _row("superseded", 409, "A later message was already taken", "a sequence number above the highest that was seen",
         "Nothing is wrong. If what it asked for is still wanted, ask again."),
    _row("grant-unknown", 409, "A grant that is not known here", "an applied grant that this activation server remembers",
         "Nothing to do: the field server repeats itself with the grant attached; carry its next message."),
    _row("restored", 409, "From before a restore", "a message that was written after the activation server was restored",
         "Nothing to do: the field server says by itself what it holds; carry its next message, then ask again."),
    _row("out-of-service", 409, "Out of service for good", "a field server in service",
         "It was said of this device that it is scrapped. To use the hardware again, commission it anew: it is another field server then."),
    _row("revision-needed", 409, "A newer revision is needed", "a field server that says it speaks the revision that this needs",
         "Update the software of the field server, then ask again; nothing was changed."),
    _row("proof-used", 409, "A proof that another message has used", "a jti that no other message of this field server has used",
         "Ask again with the activation ID: the field server makes a new proof."),
    _row("activation-id-wrong", 403, "The activation ID does not fit", "a line that exists, proven with its activation ID",
         "Check the activation ID and which activation server it is for."),
    _row("kind-mismatch", 409, "Not for this kind of field server", "a kind that the product applies to",
         "Assign it to a field server of one of those kinds."),
    _row("line-expired", 409, "The line has expired", "a line that has not expired",
         "Have the line extended, then activate again."),
    _row("line-suspended", 409, "The line is suspended", "a line that is not suspended",
         "Ask the vendor why it is suspended."),
    _row("line-frozen", 409, "The line is frozen after a restore", "a line that may grow",
         "Wait until the people who run the activation server lift the freeze; returns still work."),
    _row("not-enough", 409, "Not enough available", "at least as many available as are asked for",
         "Return some elsewhere and confirm the return, ask for fewer, or buy more."),
    _row("line-twice", 422, "A line twice in one message", "each line once",
         "Name each line once, with its end state."),
    _row("return-raises", 409, "A return may not raise", "an end state at or below what is held",
         "Use activate to raise a quantity."),
    _row("not-returnable", 409, "Sold without return", "a product that can be returned",
         "Leave this line out of the return; ask the vendor for an exception."),
    _row("too-many-lines", 409, "Too many lines on one field server", "at most 50 lines on one field server",
         "Return a line that is not needed there, carry the proof, then ask again; or spread the lines over several."),
    _row("account-differs", 409, "Licenses of another account", "licenses of one account on a field server",
         "Return what the other account has on it first."),
    _row("denied", 409, "Refused, with a reason per line", "end states that can all be granted",
         "Mend each reason, then ask again; nothing was changed."),
    # Refusals by a field server
    _row("grant-stale", 409, "An older grant", "a grant newer than the one in force",
         "Nothing to do: a newer grant is in force."),
    _row("no-root", 409, "No activation server is known yet", "a field server that knows its activation server's keys",
         "Deliver the keys (Device Administrator does it), or an entitlement certificate, then ask again."),
    _row("root-differs", 409, "Keys of another root", "a keyset of the root that is pinned, or that it was handed over to",
         "This field server belongs to another activation server; it does not change by itself."),
    _row("keyset-stale", 409, "An older keyset", "a keyset newer than the one in force",
         "Nothing to do: a newer keyset is in force."),
    _row("one-carry-not-allowed", 409, "Not with one carry", "licenses that all allow a one-carry return",
         "Use the confirmed return for this field server."),
    _row("nothing-held", 409, "Nothing to return", "a field server that holds licenses",
         "Nothing to do."),
    _row("outbox-full", 409, "Too many messages wait", "fewer than 100 messages in the outbox",
         "Carry the outbox to the activation server and bring the replies, then ask again."),
    _row("vault-damaged", 500, "The vault cannot be read", "one whole slot of two",
         "Restore the data directory from a backup, or initialise it anew and have the old one declared lost."),
    _row("vault-locked", 503, "Another process is writing the vault", "the vault to be free within a few seconds",
         "Try again; if it stays, another tallystick process hangs: stop it."),
    _row("disk-full", 507, "The disk is full", "room for a few kilobytes",
         "Make room on the disk, then try again; nothing was changed."),
    _row("disk-failed", 500, "The disk could not be written", "a disk that takes and keeps writes",
         "Check that the disk is mounted writable and healthy, then try again; nothing was changed."),
    _row("link-leads-away", 409, "A link leads to another disk", "a place on the disk that its name says",
         "Nothing was written. Who made that link? If it was you, name the place that it leads to; if not, use another stick."),
    _row("already-initialised", 409, "Already initialised", "an empty or new data directory",
         "Use the data directory as it is, or choose another one."),
    _row("host-id-empty", 422, "A host id that identifies nothing", "an id that no other machine has",
         "Leave --host-id out: then one is made from this machine's own. Or give a serial number."),
    _row("not-initialised", 409, "Not initialised", "a data directory that init has made",
         "Run the init command for this directory first."),
    # Checks: why a licensed program is told "not licensed" (docs/protocol/checks.md)
    _row("check-wrong", 422, "A check that cannot be asked", "a feature, a quantity, and the fingerprint of the vendor's root",
         "Correct the program: it names 1 to 8 roots of 43 symbols each, a feature's name and a whole number from 0."),
    _row("agent-absent", 503, "No agent", "an agent that listens at the socket",
         "Start tallystick fieldserver run, and compare the path of the socket, its mode and its group with what the program uses."),
    _row("agent-silent", 504, "The agent does not answer", "a whole answer before the deadline",
         "Look at the agent's log and at the load of the device; then start the agent again."),
    _row("agent-refused", 502, "The agent has no answer", "an answer with status 200",
         "Mend what the agent names: tallystick fieldserver status says it, too."),
    _row("answer-too-large", 502, "An answer that is too large", "at most 200 KiB",
         "Something else than an agent listens at the socket: find out what it is, and stop it."),
    _row("answer-malformed", 502, "Not an answer", "one to three envelopes as docs/protocol/checks.md says",
         "Look at what listens at the socket; if it is the agent, update the older of the two, agent or program."),
    _row("answer-differs", 502, "An answer to another question", "the nonce, the feature and the quantity that were asked",
         "Something plays old answers: find out what listens at the socket, and stop it."),
    _row("answer-forged", 502, "An answer that its device did not sign", "the signature of the device key over all that came",
         "Something between the program and the agent alters answers: find it, and stop it."),
    _row("other-issuer", 409, "Other issuer", "a license under a root that the program names",
         "This field server has its licenses from somebody else than the vendor of this program. Set it up with the vendor's root, and activate there."),
    _row("keys-forged", 409, "A keyset that its root did not sign", "a keyset with the signature of its root, and its hand-overs",
         "Refresh the licenses: deliver the vendor's keys again; if it stays, the vault was tampered with."),
    _row("grant-forged", 409, "A grant that the vendor did not sign", "a grant with the signature of a key of the keyset, in its time",
         "Refresh the licenses; if it stays, the vault was tampered with."),
    _row("other-device", 409, "Licenses of another field server", "a grant for the device that answers",
         "Activate on this device: licenses that were copied from another one do not count here."),
    _row("older-grant", 409, "An older grant than before", "the newest grant that the program has seen, or a newer one",
         "The data directory was put back to an older state: refresh the licenses."),
    _row("too-few", 409, "Too few activated", "as many units as the program requires",
         "Activate more of this feature on this field server."),
    _row("expired", 409, "Expired", "a license of this feature that is in force",
         "Have the line extended, then refresh."),
    _row("not-licensed", 409, "No license", "a license of this feature on this field server",
         "Activate a product with this feature on this field server."),
    # People and HTTP
    _row("password-wrong", 401, "The password does not fit", "the password of this field server",
         "Take it from the password file that init wrote on the field server."),
    _row("too-many-tries", 429, "Too many wrong passwords", "a pause after a wrong password",
         "Wait as long as Retry-After says, then try again with the right one."),
    _row("not-allowed", 403, "Not allowed", "somebody with the permission for it",
         "Ask an administrator of your account, or the vendor, to do it or to give you the role."),
    _row("role-wrong", 409, "A role that does not fit", "a customer's role with an account, a vendor's without one",
         "Choose another role, or name the account."),
    _row("token-wrong", 401, "No valid token", "a token that has not expired",
         "Make a new token on the page People and tokens, and send it as Authorization: Bearer TOKEN."),
    _row("sign-in-wrong", 401, "Not the right pair", "an e-mail address and its password",
         "Try again; who forgot the password asks an administrator for a new invitation."),
    _row("sign-in-paused", 429, "Too many tries", "a pause after failed tries",
         "Wait as long as is said, then try again."),
    _row("strangers-paused", 429, "Too many messages of strangers", "few messages of whoever proved nothing here",
         "Wait a minute, then send it again; nothing is lost. A field server that is known here is not concerned."),
    _row("code-wrong", 401, "The code does not fit", "the six digits that the authenticator shows now",
         "Wait for the next six digits and type those; check that the clock of the authenticator is right."),
    _row("signed-out", 401, "Not signed in", "a session that goes on",
         "Sign in, then do it again."),
    _row("form-stale", 403, "The form does not fit your session", "a form of this session, sent from our own page",
         "Go back, load the page again, then send the form once more; nothing was changed."),
    _row("setup-code-wrong", 403, "The set-up code does not fit", "the set-up code that was printed last",
         "Take the code that the activation server printed when it was started last; start it again for a new one."),
    _row("invitation-wrong", 403, "The invitation counts no more", "an invitation that was not used and has not expired",
         "Ask who invited you for a new one."),
    _row("password-weak", 422, "A password that is too easy", "a password that is long enough, and that nobody guesses",
         "Choose a longer one, for example four words that have nothing to do with each other."),
    _row("last-administrator", 409, "The last vendor administrator", "another vendor administrator who can sign in",
         "Invite another vendor administrator first, and wait until the invitation was used."),
    _row("exists-already", 409, "There is one already", "a name that is not taken",
         "Use the one that there is, or choose another name."),
    _row("key-reused", 409, "The idempotency key was used for another request", "a new key for a new request",
         "Send the first request again as it was, or take a new key."),
    _row("changed-meanwhile", 412, "Somebody else changed it meanwhile", "the version that you saw",
         "Load it again, look at what was changed, then decide again; nothing was changed by you."),
    _row("incident-over", 409, "The incident is resolved already", "an incident that is not resolved",
         "Read who resolved it and why; if it happens again, it is noted as a new incident."),
    _row("version-missing", 428, "Which version?", "the header If-Match with the ETag that you saw",
         "Read it first, then send its ETag as If-Match."),
    _row("devices-wrong", 409, "A list of field servers that does not fit", "field servers for a courier's token",
         "Name the field servers that the courier carries for, and at most 31 days."),
    _row("outside-scope", 403, "Not for you to carry", "messages of field servers that you may carry for",
         "Give this message to somebody who may; the other lines are not affected."),
    _row("listed-only", 409, "Listed, and not heard from yet", "a field server that has spoken to this activation server",
         "Let the field server ask for something first (a refresh will do), bring its message here, then do this again."),
    _row("not-in-service", 409, "Not in service", "a field server in service",
         "Look at its history: it is on hold, lost or retired."),
    _row("holds-licenses", 409, "It still holds licenses", "a field server that holds nothing",
         "Return what it holds and carry the proof, or declare it lost; then retire it."),
    _row("replace-wrong", 409, "Not a replacement", "another field server of the same account",
         "Choose a field server that the same account owns, or that nobody owns yet."),
    _row("replace-nothing", 409, "Nothing to take over", "a field server of which is known what it held",
         "Activate on the other field server what it needs, with the activation IDs."),
    _row("not-sure", 422, "Please read what follows first", "a tick that says that you have read what follows",
         "Go back, read what follows from it, tick it, then send it again; nothing was changed."),
    _row("certificate-changed", 409, "The certificate has changed", "the certificate that was pinned at first contact",
         "If the field server was set up anew, remove and add it again after comparing the fingerprint on the device; if not, somebody is in between."),
    _row("unreachable", 503, "Could not be reached", "an answer from that address",
         "Check the address, the cable and the route; then try again. Nothing is lost."),
    _row("certificate-untrusted", 502, "A certificate that is not trusted here", "a certificate that this computer trusts, for that address",
         "It was reached: have whoever runs it renew the certificate, or have its issuer trusted on this computer; check this computer's clock. Nothing is lost."),
    _row("proxy-refused", 502, "The proxy does not let through", "a proxy that lets through to that address",
         "Check the proxy, its user and its password: tallystick admin proxy, or the page Route. Nothing is lost.",
         N_("Check the proxy, its user and its password on the page Route. Nothing is lost.")),
    _row("version-wrong", 409, "It speaks another version", "version 1 of the field server API",
         "Update the older of the two, the field server or Device Administrator; until then nothing of it is changed."),
    _row("not-found", 404, "Not found", "something that exists here",
         "Check the name; the list shows what there is."),
    _row("method-wrong", 405, "Not done this way", "a method that this path takes",
         "Use a method that the API reference lists for this path."),
    _row("request-too-slow", 408, "The request took too long", "a whole request in time",
         "Send it again; a tally file may be split between any two lines."),
    _row("address-taken", 409, "Cannot listen there", "a free address and port of this machine",
         "Choose another --host or --port, or stop the program that listens there; --port 0 takes any free one.",
         N_("Choose another address or port, or stop the program that listens there.")),
    _row("certificate-unusable", 409, "The certificate cannot be used", "a certificate chain and its key, as PEM files, the key without a password",
         "Name the two files that belong together: the chain with the server's own certificate first, and its key."),
    _row("ambiguous", 409, "More than one fits", "a name that fits exactly one",
         "Use its id from what was seen, or more of it."),
    _row("catalog-wrong", 422, "The catalog cannot be used", "a catalog as `tallystick activation catalog example` prints it",
         "Correct the named place in the file; nothing was loaded."),
    _row("lost-already", 409, "Already declared lost", "a field server in service",
         "Nothing to do."),
    _row("lost-too-often", 409, "Too many declared lost", "at most the allowed number in a rolling year",
         "Somebody with the permission to override must do it: --override, which is recorded in their name."),
    _row("not-on-hold", 409, "Not on hold", "a field server that is on hold",
         "Nothing to do."),
    _row("database-unavailable", 503, "The database did not answer", "a database that takes the batch",
         "Try again; nothing was half-done."),
    _row("database-newer", 500, "The database is of a newer version", "a schema that this version knows",
         "Run the newer version of Tallystick that made it."),
    _row("database-older", 500, "The database is of an older version", "the schema of this version",
         "Make a backup, then run: tallystick activation migrate."),
    _row("database-missing", 500, "The database is gone", "the database that init has made",
         "Put the database file back from the newest backup, then announce it: tallystick activation restore."),
    _row("database-foreign", 409, "The database of another activation server", "the database that these keys are for",
         "Use the data directory and the database that belong together: compare the settings, and put the newest keyset back."),
    _row("database-in-use", 409, "The database is in use", "a database that nothing else uses, or that is not being copied",
         "Stop serve and every other command on it, then copy; or wait until the copy is done, then go on with the copy."),
    _row("database-moved", 409, "The database was copied into another one", "a database that no copy took the place of",
         "Use the copy. To go on with this one, announce that it is an old backup: tallystick activation restore."),
    _row("database-damaged", 500, "The database is damaged", "a whole database",
         "Stop, keep the file as it is, put the newest backup in its place, then announce it: tallystick activation restore."),
    _row("keys-unusable", 500, "The keys cannot be used", "a signing key and the keyset that names it",
         "Put the keys directory and the keyset back from the backup of the data directory, as init made them."),
    _row("passphrase-wrong", 500, "The passphrase does not fit", "the passphrase of the key",
         "Set TALLYSTICK_KEYS_PASSPHRASE (or keys.passphrase_file), for a root TALLYSTICK_ROOT_PASSPHRASE; then try again."),
    _row("keys-too-many", 409, "Too many keys", "room in the keyset for one more",
         "Take out keys whose replies have all been delivered: tallystick activation keys retire KEY --remove."),
    _row("key-in-use", 409, "The key still signs", "a key that does not sign any more",
         "Rotate first (tallystick activation keys rotate), then retire the old key."),
    _row("settings-wrong", 422, "The settings cannot be used", "settings as init writes them",
         "Correct the named place in settings.toml or in the environment; nothing was started."),
    _row("webhook-target", 409, "Webhooks may not go there", "an HTTPS address of the public Internet",
         "Use another URL; for one inside, name its host or network in the setting webhooks.allow_private."),
    _row("event-kind-unknown", 422, "No such kind of event", "a kind of event that there is",
         "Use one of the kinds that docs/operations/webhooks.md lists."),
    _row("webhooks-full", 409, "Enough webhooks", "room for another webhook",
         "Remove one that is not needed any more; one webhook can get many kinds of events."),
    _row("cursor-wrong", 409, "Not a place in the stream", "a place that the stream has given",
         "Use `next` of the answer before, or the position of an event; 0 is the beginning."),
    _row("operations-token-wrong", 401, "The token does not fit", "the operations token as Authorization: Bearer",
         "Take it from the settings of the activation server (operations.token); without one there, nobody gets in."),
    _row("backup-wrong", 422, "Not a backup", "a backup as `activation backup` writes it, whole",
         "Use another copy of the backup; nothing of this one was put in place."),
    _row("backup-passphrase-wrong", 422, "The passphrase of the backup does not fit", "the passphrase of the backup",
         "Give --passphrase-file with it, or type it when asked; nothing was written or put in place."),
    _row("mail-failed", 503, "The mail was not taken", "a mail server that takes the mail",
         "Check the settings under mail with: tallystick activation config check. It is tried again by itself."),
    _row("too-busy", 503, "Too many messages wait", "room for another batch",
         "Try again in a few seconds; nothing was half-done."),
    _row("no-messages", 422, "No message in it", "a tally file with at least one message",
         "Choose the file that the field server's outbox, or Device Administrator's export, has made."),
    _row("product-unknown", 409, "Not in the catalog", "a product of the catalog, by its SKU",
         "Correct the SKU, or load a catalog that has it: tallystick activation catalog load.",
         N_("Choose a product of the page Catalog, or have a catalog loaded that has it.")),
    _row("entitlement-too-large", 409, "Too much for one entitlement", "lines that fit into one certificate",
         "Spread the products over several entitlements."),
    _row("device-id-mistyped", 422, "Not a device id", "the 43 symbols of a device id",
         "Copy the device id from the field server: tallystick fieldserver status.",
         N_("Copy the device id from the field server, or from the page Field servers.")),
    _row("date-wrong", 422, "Not a date", "a date like 2027-12-31, a moment like 2027-12-31T12:00:00Z, or never",
         "Write the date as shown; a date alone is a whole day, UTC: what ends with it ends at 23:59:59."),
    _row("date-past", 409, "An end that has passed", "an end in the future, or never",
         "Correct the date. To stop growth now, suspend the line; to end it, lower its quantity."),
    _row("text-wrong", 422, "Not a usable text", "1 to 128 printable symbols",
         "Choose a shorter text, without control symbols."),
    _row("name-misleading", 409, "A name that looks like another", "a name whose words are of one alphabet each",
         "Type the name anew on one keyboard: letters of another alphabet in it look like Latin ones."),
    _row("ledger-wrong", 500, "The ledger does not add up", "balances that follow from the ledger",
         "Stop, keep the data as it is, and restore from the last backup that verifies."),
    _row("demo-failed", 500, "A scene of the demo did not end as told", "the scene to end as told",
         "Look at the logs in the demo's directory (run it with --keep); on a slow machine, try once more."),
    _row("usage", 422, "Wrong usage", "a command as its --help shows",
         "Look at --help.",
         N_("Go back and correct it; nothing was changed.")),
    _row("invariant", 500, "An inner contradiction", "a state that cannot contradict itself",
         "Stop, keep the data as it is, and report it: this is a fault of Tallystick."),
)
# fmt: on

BY_CODE = {problem.code: problem for problem in PROBLEMS}


def problem_for(code: str) -> Problem:
    """The row of a code. Raises ``InvariantError`` for one that is not in the table."""
    try:
        return BY_CODE[code]
    except KeyError:
        raise InvariantError("a code of the table in protocol.problems", code) from None


def detail_text(code: str, *, expected: str, seen: str) -> str:
    """One text for people: what was expected, what was seen, what to do next. English, for programs and files."""
    return str(detail_sentence(code, expected=expected, seen=seen))


def detail_sentence(code: str, *, expected: str, seen: str) -> Sentence:
    """The same for a person at an edge."""
    step = problem_for(code).next_step
    return _("Expected {expected}; saw {seen}. {next_step}", expected=expected, seen=seen, next_step=step)


def check_query(asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse parameters that nobody would look at: whoever misspells one is not to believe that it counted.

    Raises ``Error`` (``query-wrong``).
    """
    names = sorted(known)
    for name in asked:
        if name not in names:
            expected = _("only {names}", names=", ".join(names)) if names else _("no parameters")
            raise Error("query-wrong", expected=expected, seen=repr(name[:60]))


def problem_document(error: Error) -> dict[str, object]:
    """An RFC 9457 problem for ``error``, with its ``status``, for any HTTP edge. In English."""
    problem = problem_for(error.code)
    return {
        "type": f"urn:tallystick:problem:{problem.code}",
        "title": str(problem.title),
        "status": problem.status,
        "code": problem.code,
        "expected": error.expected,
        "seen": error.seen,
        "next_step": str(problem.next_step),
        "detail": detail_text(problem.code, expected=error.expected, seen=error.seen),
    }


def problem_page(error: Error) -> dict[str, object]:
    """The same as sentences, for the reader of a page."""
    problem, (expected, seen) = problem_for(error.code), error.said
    texts = {"title": problem.title, "expected": expected, "seen": seen, "next_step": problem.next_step}
    return {"code": error.code, "status": problem.status, **texts}
