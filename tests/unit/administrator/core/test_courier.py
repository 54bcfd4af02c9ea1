"""The route is found and explained; replies are verified before they are let in."""

import pytest

from support.activation import ISSUER, TestSigner
from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.goals import Return
from tallystick.administrator.ports import Answered, PortError, RouteKind
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.problems import WireError

URL = "https://activation.example"


def find(site, **options):
    return Courier(site, site.inventory, **options).find_route(site.inventory.field_servers())


def own_route(reachable, why=""):
    return {"url": URL, "reachable": reachable, "why": why, "checked_at": 1}


def test_without_an_address_the_route_is_offline_and_says_so(site):
    site.add("roof")
    found = find(site)
    assert (found.route, "No address" in found.why) == (RouteKind.OFFLINE, True)


def test_offline_names_the_address_and_what_failed(site, line):
    site.cut.add("activation")
    found = find(site)
    assert found.route is RouteKind.OFFLINE
    assert URL in found.why
    assert "No route to host" in found.why


def test_online_when_field_servers_reach_it_themselves(site, line):
    site.add("roof").own_route = own_route(True)
    assert find(site).route is RouteKind.ONLINE


@pytest.mark.parametrize("own", [None, own_route(False, "timed out")])
def test_semi_online_names_the_field_servers_that_do_not(site, line, own):
    site.add("roof").own_route = own_route(True)
    site.add("cellar").own_route = own
    found = find(site)
    assert found.route is RouteKind.SEMI_ONLINE
    assert "cellar at https://cellar" in found.why
    assert "roof" not in found.why
    assert ("timed out" if own else "told of no activation server") in found.why


def test_field_servers_out_of_reach_are_named_and_do_not_decide(site, line):
    site.add("roof").own_route = own_route(True)
    site.add("cellar")
    site.cut.add("cellar")
    found = find(site)
    assert found.route is RouteKind.ONLINE
    assert "Not reached from here: cellar" in found.why
    site.cut.add("roof")
    assert find(site).route is RouteKind.SEMI_ONLINE


def test_the_forced_route_is_taken_and_nobody_is_asked_for_it(site, line):
    found = find(site, forced=RouteKind.OFFLINE)
    assert found.route is RouteKind.OFFLINE
    assert site.calls["activation", "keys"] == 0


def test_every_sentence_is_one_paragraph_of_bounded_length(site, line):
    for number in range(30):
        site.add(f"fs{number}")
    assert "and 25 more" in find(site).why


def test_the_activation_server_is_asked_for_its_keys_once_per_run(site, line):
    roof = site.add("roof")
    courier = Courier(site, site.inventory)
    message = message_of(site, roof, line)
    site.calls.clear()
    courier.exchange(ISSUER, [message])
    courier.exchange(ISSUER, [message])
    assert site.calls["activation", "keys"] == 1


def test_a_failed_probe_holds_for_the_run_so_that_nobody_waits_twice(site, line):
    courier = Courier(site, site.inventory)
    site.cut.add("activation")
    message = message_of(site, site.add("roof"), line)
    site.calls.clear()
    for _ in range(3):
        with pytest.raises(PortError) as error:
            courier.exchange(ISSUER, [message])
        assert error.value.code == "unreachable"
    assert site.calls["activation", "keys"] == 1


def message_of(site, server, line):
    cut = set(site.cut)
    site.cut = {"activation"}
    site.activate(server, (line, 1))
    site.cut = cut
    return site.mailbag.outbound(server.id)[0]


def test_another_issuer_at_the_known_address_gets_no_message(site, line):
    message = message_of(site, site.add("roof"), line)
    site.bench.signer = TestSigner("stranger", issuer="Somebody Else")
    with pytest.raises(PortError) as error:
        Courier(site, site.inventory).exchange(ISSUER, [message])
    assert "another one" in error.value.seen
    assert site.calls["activation", "exchange"] == 0


def test_a_root_that_changed_is_refused_before_anything_is_sent(site, line):
    message = message_of(site, site.add("roof"), line)
    site.bench.signer = TestSigner("stranger", issuer=ISSUER)
    with pytest.raises(PortError) as error:
        Courier(site, site.inventory).exchange(ISSUER, [message])
    assert error.value.code == "root-differs"
    assert site.calls["activation", "exchange"] == 0


def test_replies_that_a_stranger_signed_are_not_let_in(site, line, monkeypatch):
    message = message_of(site, site.add("roof"), line)
    forged = TestSigner("stranger").sign("tally-grant+jwt", b"{}")

    def lie(_self, envelopes):
        return tuple(Answered(digest=message.digest, outcome="granted", replies=(forged,)) for _ in envelopes)

    monkeypatch.setattr(type(site.activation(URL)), "exchange", lie)
    carried = Courier(site, site.inventory).exchange(ISSUER, [message])
    assert carried.replies == ()
    assert [unread.code for unread in carried.unread] == ["key-unknown"]


def test_a_reply_of_another_kind_is_refused(site, line):
    with pytest.raises(WireError) as error:
        Courier(site, site.inventory).read_reply(site.bench.signer.sign("tally-keys+jwt", b"{}"))
    assert error.value.code == "kind-unexpected"


def test_rotated_keys_are_learned_from_the_reply_and_reach_the_field_server(site, line):
    roof = site.add("roof")
    site.activate(roof, (line, 1))
    flow = site.workflows()
    rotate(site)
    assert flow.run({roof.id: Return()})[0].is_finished
    assert roof.state.keyset.version == 2
    assert site.bench.where(line) == (5, 0, 0, 0)


def rotate(site):
    """The same root, a new signing key, keyset 2."""
    from support.activation import seeded
    from tallystick.protocol import keys
    from tallystick.protocol.envelope import PrivateKey

    old = site.bench.signer
    new = TestSigner()
    new.root, new.key = old.root, PrivateKey(seeded("second key"))
    both = tuple(keys.SigningKey(jwk=keys.Jwk(**key.public.jwk), valid_from=0) for key in (old.key, new.key))
    compact = keys.make_keyset(old.root, issuer=ISSUER, version=2, issued_at=site.now, keys=both)
    new.keyset = keys.parse_keyset(open_envelope(compact.encode()))
    site.bench.signer = new
