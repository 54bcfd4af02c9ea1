"""The checks of ``tools/history`` find each kind of contradiction in a history written by hand, and nothing in a good one."""

import base64
import hashlib
import json

import pytest

from history.checks import ACCOUNTS, check
from history.record import NEVER, Held, History, Look, Post, Verb

LINE, DEVICE = "L", "device"
NOTHING = dict.fromkeys(ACCOUNTS, 0)


def envelope(**claims):
    return f"header.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.signature"


class Story:
    """One line of ten, and what happened to it."""

    def __init__(self):
        self.history = History()
        self.entries, self.stored, self.incidents = [], {}, []
        self.terms = {"suspended": False, "frozen": False}
        self.chain = ""
        self.book("bought", "available", 10, cause="person: bought", device=None)

    def book(self, source, target, quantity, *, cause, device=DEVICE):
        row = {"line_id": LINE, "number": len(self.entries) + 1, "source": source, "target": target}
        row |= {"quantity": quantity, "device_id": device, "cause": cause, "booked_at": 0}
        text = (self.chain, LINE, row["number"], source, target, quantity, device or "", cause, 0)
        self.chain = hashlib.sha256("\x1f".join(map(str, text)).encode()).hexdigest()
        self.entries.append(row | {"chain": self.chain})
        return self.entries[-1]

    def post(self, digest, begun, ended, *reply, sequence=1, purpose="activate"):
        self.history.messages[digest] = envelope(iss=DEVICE, epoch=1, sequence=sequence, purpose=purpose)
        said = reply or (envelope(request=digest, epoch=1, licenses=[]),)
        replies = {} if ended == NEVER else {digest: said}
        self.history.posts.append(Post(digests=[digest], begun=begun, ended=ended, replies=replies))
        self.stored.setdefault(digest, " ".join(said))
        return said

    def take(self, digest, begun, ended, quantity, **options):
        self.post(digest, begun, ended, **options)
        self.book("available", "held", quantity, cause=digest)

    def hold(self, begun, ended, quantity):
        self.history.held.append(Held(device=DEVICE, epoch=1, quantities={LINE: quantity}, begun=begun, ended=ended))

    def verb(self, name, begun, ended, outcome="done", subject=LINE, **change):
        self.history.verbs.append(
            Verb(name=name, subject=subject, begun=begun, ended=ended, outcome=outcome, change=change)
        )

    def look(self, begun, ended, **shown):
        balances = NOTHING | {"available": 10} | self.terms | shown
        self.history.looks.append(Look(line=LINE, begun=begun, ended=ended, shown=balances))

    def found(self):
        totals = dict(NOTHING)
        for row in self.entries:
            totals[row["target"]] += row["quantity"]
            if row["source"] in totals:
                totals[row["source"]] -= row["quantity"]
        books = {
            "lines": [{"line_id": LINE} | totals | self.terms],
            "entries": self.entries,
            "messages": [{"digest": digest, "reply": reply} for digest, reply in self.stored.items()],
            "incidents": self.incidents,
        }
        return [line.split(":")[0] for line in check(self.history, books)]


@pytest.fixture
def story():
    return Story()


def test_a_good_history_has_no_finding(story):
    story.look(0, 1)
    story.verb("terms", 1, 2, suspended=True)
    story.verb("terms", 3, 4, suspended=False)
    story.take("a", 5, 6, 3)
    story.hold(7, NEVER, 3)
    story.post("a", 8, 9)
    story.look(9, 10, available=7, held=3)
    assert story.found() == []


def test_another_reply_to_the_same_message_is_found(story):
    story.take("a", 1, 2, 3)
    story.post("a", 3, 4, envelope(request="a", epoch=1, number=2))
    assert "P4" in story.found()


def test_a_reply_that_is_not_in_the_books_is_found(story):
    story.post("a", 1, 2)
    story.stored.clear()
    assert story.found() == ["lost"]


def test_a_reply_that_a_prune_may_forget_may_be_missing_and_one_of_a_field_server_in_doubt_may_not(story):
    story.post("a", 1, 2)
    story.post("b", 3, 4, sequence=2)
    del story.stored["a"]
    story.verb("prune", 10, 11, subject="*")
    assert story.found() == []
    story.verb("freeze", 8, 9, subject="*", frozen=True)
    assert story.found() == ["lost", "terms"]  # and nobody has lifted the freeze


def test_what_a_stranger_was_told_may_be_forgotten_by_a_prune(story):
    story.post("a", 1, 2, envelope(request="a", code="not-enrolled", reasons=[]))
    del story.stored["a"]
    assert story.found() == ["lost"]
    story.verb("prune", 10, 11, subject="*")
    assert story.found() == []


def test_more_than_is_kept_at_some_instant_is_found(story):
    story.take("a", 1, 2, 3)
    story.hold(3, 20, 3)
    story.post("b", 8, 9, sequence=2, purpose="return")
    entry = story.book("held", "available", 3, cause="b")
    receipt = {"line": LINE, "number": entry["number"], "quantity": 3, "chain": entry["chain"]}
    story.stored["b"] = envelope(request="b", entries=[receipt])
    story.history.posts[-1].replies = {"b": (story.stored["b"],)}
    assert story.found() == ["P1"]
    story.verb("lost", 4, 5, subject=DEVICE)  # the one exception: declared lost while alive
    assert story.found() == []


def test_rights_that_come_back_without_a_receipt_are_found(story):
    story.take("a", 1, 2, 3)
    story.post("b", 8, 9, sequence=2, purpose="return")
    story.book("held", "available", 3, cause="b")
    assert story.found() == ["receipts"]


def test_an_entry_that_was_answered_before_an_earlier_one_was_asked_for_is_found(story):
    story.take("late", 5, 6, 1)
    story.take("early", 1, 2, 1, sequence=2)
    assert story.found() == ["order"]


def test_an_entry_that_is_not_chained_is_found(story):
    story.take("a", 1, 2, 3)
    story.entries[-1]["quantity"] = 2
    assert "P5" in story.found()


def test_a_line_shown_as_it_was_before_is_found(story):
    story.take("a", 1, 2, 3)
    story.look(3, 4)
    assert story.found() == ["look"]


def test_a_suspension_that_is_gone_without_anybody_s_doing_is_found(story):
    story.verb("terms", 1, 2, suspended=True)
    story.look(3, 4, suspended=True)
    story.look(5, 6, suspended=False)
    assert story.found() == ["terms"]


def test_a_suspension_that_nobody_answered_may_be_there_or_not(story):
    story.verb("terms", 1, NEVER, outcome=None, suspended=True)
    story.look(3, 4)
    assert story.found() == []
    story.look(5, 6, suspended=True)
    story.terms["suspended"] = True
    assert story.found() == []


def test_many_writes_that_nobody_answered_are_checked_at_once(story):
    for moment in range(200):
        story.verb("terms", moment, NEVER, outcome=None, suspended=bool(moment % 2))
    story.look(200, 201, suspended=True)
    story.look(202, 203, suspended=False)
    assert story.found() == []
    story.verb("freeze", 0.5, 1, frozen=True)
    assert story.found() == ["terms"]


def test_growth_of_a_line_that_is_suspended_is_found(story):
    story.verb("terms", 1, 2, suspended=True)
    story.take("a", 3, 4, 3)
    story.verb("terms", 5, 6, suspended=False)
    assert story.found() == ["terms"]


def test_two_messages_of_one_sequence_that_are_both_decided_are_found(story):
    story.history.suspects.add(DEVICE)
    story.post("a", 1, 2)
    story.post("b", 1, 2)
    assert story.found() == ["fork", "fork"]


def test_an_incident_of_somebody_innocent_is_found(story):
    story.incidents.append({"device_id": DEVICE, "kind": "rollback", "digest": "a"})
    assert story.found() == ["P7"]
