"""What a person types becomes field servers, lines and assignments, or a refusal that names what would be right."""

from types import SimpleNamespace

import pytest

from tallystick.activation.core.entitlements import LineChange, change_line
from tallystick.administrator.core import pinning, planning
from tallystick.administrator.core.courier import Courier
from tallystick.administrator.memory.inventory import Assignment
from tallystick.errors import Error


@pytest.fixture
def known(site, line):
    return site.inventory.lines()


def records(site):
    return site.inventory.field_servers()


def refused(work, *words, **options):
    with pytest.raises(Error) as error:
        work(*words, **options)
    return error.value


def test_a_field_server_is_found_by_name_device_id_prefix_or_address(site):
    roof, _ = site.add("roof"), site.add("cellar")
    for selector in ("roof", "ROOF", roof.id, roof.id[:6], roof.address, "roof/", "https://ROOF"):
        assert planning.find_field_server(records(site), selector).device_id == roof.id


def test_an_unknown_one_is_not_found_and_the_list_is_shown(site):
    site.add("roof")
    error = refused(planning.find_field_server, records(site), "cellar")
    assert (error.code, "roof" in error.expected) == ("not-found", True)


def test_two_of_one_name_are_ambiguous_and_their_ids_are_shown(site):
    one, two = site.add("roof"), site.add("attic")
    with site.inventory._database.write() as sql:
        sql.execute("UPDATE field_servers SET name = 'roof'")
    error = refused(planning.find_field_server, records(site), "roof")
    assert error.code == "ambiguous"
    assert one.id[:12] in error.seen
    assert two.id[:12] in error.seen


def test_each_is_chosen_once(site):
    site.add("roof")
    assert len(planning.find_field_servers(records(site), ["roof", "https://roof"])) == 1


@pytest.mark.parametrize("both", [(["roof"], True), ([], False), (None, False)])
def test_names_or_all_but_not_both_and_not_neither(site, both):
    site.add("roof")
    selectors, everyone = both
    assert refused(planning.choose_field_servers, site.inventory, selectors, is_everyone=everyone).code == "usage"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.0.0.7:8443", "https://10.0.0.7:8443"),
        ("https://roof/", "https://roof"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_addresses_are_completed(text, url):
    assert planning.normal_address(text) == url


@pytest.mark.parametrize(
    "text", ["http://roof", "https://", "ftp://roof", "https://a@roof", "https://roof:x", "https://roof/path", ""]
)
def test_anything_but_https_is_refused(text):
    assert refused(planning.normal_address, text).code == "usage"


@pytest.mark.parametrize(
    "text", ["7K3M9Q2A", "=1", "7K3M9Q2A=", "7K3M9Q2A=-1", "7K3M9Q2A=1.5", "x=9999999999999", "x=²"]
)
def test_a_pair_needs_a_line_and_a_quantity(text):
    assert refused(planning.parse_pair, text).code == "quantity-wrong"


def test_a_line_is_found_by_id_activation_id_or_product(site, line, known):
    for text in (line.line_id, line.line_id.lower(), str(line.activation_id), "smartdriver"):
        found = planning.choose_line(text, known)
        assert (found.line_id, found.activation_id) == (line.line_id, str(line.activation_id))


def test_a_product_on_two_lines_is_ambiguous_and_the_advice_names_the_lines(site, line):
    site.know(site.bench.buy(1))
    error = refused(planning.choose_line, "SmartDriver", site.inventory.lines())
    assert error.code == "ambiguous"
    for line_id in site.inventory.lines():
        assert line_id in error.next_step
        assert f"{line_id} (for ever)" in error.seen
    assert "device id" not in error.next_step


def test_an_activation_id_needs_no_entitlement_but_a_mistyped_one_is_caught(site):
    bought = site.bench.buy(1)
    text = str(bought.activation_id)
    assert planning.choose_line(text, {}).activation_id == text
    wrong = text[:-2] + ("0" if text[-2] != "0" else "1") + text[-1]
    assert refused(planning.choose_line, wrong, {}).code == "activation-id-mistyped"


def test_a_held_line_can_be_named_for_a_return_without_its_entitlement(site, line):
    roof = site.add("roof")
    site.activate(roof, (line, 1))
    for text in (line.line_id, "smartdriver"):
        found = planning.choose_line(text, {}, records(site))
        assert (found.line_id, found.activation_id) == (line.line_id, None)


def test_a_product_that_does_not_apply_is_refused_and_its_kinds_are_named(site):
    site.add("roof")
    logs = site.bench.buy(1, "logs")
    site.know(logs)
    error = refused(planning.assign, site.inventory, ["logs=1"], records(site), now=1)
    assert (error.code, "Edge Server" in error.expected, "AS-P" in error.seen) == ("kind-mismatch", True, True)
    assert site.inventory.assignments() == []


@pytest.mark.parametrize(("kind", "is_known"), [("as-p", True), ("AS\u2011P", True), ("AS-Q", False)])
def test_a_kind_that_no_known_product_is_for_is_said_when_it_is_added(site, line, kind, is_known):
    network = SimpleNamespace(certificate=site.certificate_of, field_server=site.field_server)
    roof = site.add("roof", kind)
    said = pinning.add_field_server(
        network, site.inventory, address=roof.address, password="p", fingerprint=None, now=1
    ).warning
    assert (said == "") is is_known
    assert is_known or ("AS-Q" in said and "AS-P" in said)
    if is_known:
        planning.assign(site.inventory, ["smartdriver=1"], records(site), now=1)
        assert site.activate(roof, (line, 1)).result == "done"


def test_no_more_is_planned_than_was_bought_over_all_field_servers(site, line):
    site.add("roof")
    site.add("cellar")
    roof, cellar = (planning.find_field_server(records(site), name) for name in ("roof", "cellar"))
    planning.assign(site.inventory, ["smartdriver=3"], [roof], now=1)
    error = refused(planning.assign, site.inventory, ["smartdriver=3"], [cellar], now=1)
    assert (error.code, "roof=3" in error.seen) == ("not-enough", True)
    assert refused(planning.assign, site.inventory, ["smartdriver=3"], [roof, cellar], now=1).code == "not-enough"
    planning.assign(site.inventory, ["smartdriver=5"], [roof], now=1)  # an end state, it does not add
    assert [one.quantity for one in site.inventory.assignments()] == [5]


def test_all_pairs_are_checked_before_any_is_planned(site, line):
    site.add("roof")
    assert refused(planning.assign, site.inventory, ["smartdriver=1", "nothing=1"], records(site), now=1)
    twice = ["smartdriver=1", f"{line.line_id}=2"]
    assert refused(planning.assign, site.inventory, twice, records(site), now=1).code == "line-twice"
    assert site.inventory.assignments() == []


def test_with_all_those_without_a_plan_are_left_out_but_a_named_one_is_refused(site, line):
    site.add("roof")
    site.add("cellar")
    every = records(site)
    planning.assign(site.inventory, ["smartdriver=1"], [planning.find_field_server(every, "roof")], now=1)
    plan = site.inventory.assignments()
    assert len(planning.activation_goals(plan, every, is_everyone=True)) == 1
    assert refused(planning.activation_goals, plan, every, is_everyone=False).code == "not-found"
    assert refused(planning.activation_goals, [], every, is_everyone=True).code == "not-found"


def test_what_was_returned_is_not_planned_any_more(site, line):
    roof = site.add("roof")
    planning.assign(site.inventory, ["smartdriver=2"], records(site), now=1)
    site.activate(roof, (line, 2))
    assert site.inventory.assignments()
    site.give_back(roof)
    assert site.inventory.assignments() == []


def test_what_was_given_back_without_this_computer_is_planned_again_when_the_activation_server_says_so(site, line):
    """Its own plan and its last look at roof still count five; the activation server knows better."""
    roof, cellar = site.add("roof"), site.add("cellar")
    planning.assign(site.inventory, ["smartdriver=5"], [planning.find_field_server(records(site), "roof")], now=1)
    site.activate(roof, (line, 5))
    seen, plan = site.inventory.field_servers(), site.inventory.assignments()
    site.give_back(roof)
    site.inventory.plan(plan, now=1)  # as if somebody else had carried it
    for record in seen:
        if record.report is not None:
            site.inventory.keep_report(record.report, now=site.now)
    chosen = [planning.find_field_server(records(site), "cellar")]
    error = refused(planning.assign, site.inventory, ["smartdriver=5"], chosen, now=1)
    assert "not known here" in error.seen
    assert "entitlement add" in error.next_step
    site.inventory.keep_available({line.line_id: site.bench.line(line).available}, now=1_800_000_000)
    planning.assign(site.inventory, ["smartdriver=5"], chosen, now=1)
    site.activate(cellar, (line, 5))
    site.add("tower")
    chosen = [planning.find_field_server(records(site), "tower")]
    again = refused(planning.assign, site.inventory, ["smartdriver=1"], chosen, now=1)
    assert "5 available at 2027-01-15" in again.seen, again.seen


def planned(server, line, quantity):
    return Assignment(
        device_id=server.id, line_id=line.line_id, activation_id=str(line.activation_id), quantity=quantity
    )


def given_back_elsewhere(site, line):
    """Roof gave back all five without this computer, which still believes that it holds them."""
    roof = site.add("roof")
    site.add("cellar")
    site.activate(roof, (line, 5))
    seen = site.inventory.field_servers()
    site.give_back(roof)
    for record in seen:
        if record.report is not None:
            site.inventory.keep_report(record.report, now=site.now)
    site.inventory.plan([planned(roof, line, 5)], now=1)
    return [planning.find_field_server(records(site), "cellar")]


def asking(site):
    courier = Courier(site, site.inventory)
    return lambda line_ids: pinning.ask_available(courier, site.inventory, line_ids, now=site.now)


def test_the_activation_server_is_asked_before_a_plan_is_refused_for_what_is_known_here(site, line):
    cellar = given_back_elsewhere(site, line)
    planning.assign(site.inventory, ["smartdriver=5"], cellar, now=1, ask=asking(site))
    assert site.calls["activation", "lookup"] == 1
    assert site.inventory.lines()[line.line_id].available_at == site.now


def test_it_is_not_asked_where_there_is_enough_and_nothing_is_planned_where_it_cannot_be_reached(site, line):
    site.add("tower")
    planning.assign(site.inventory, ["smartdriver=1"], records(site), now=1, ask=asking(site))
    assert site.calls["activation", "lookup"] == 0
    cellar = given_back_elsewhere(site, line)
    site.cut.add("activation")
    error = refused(planning.assign, site.inventory, ["smartdriver=5"], cellar, now=1, ask=asking(site))
    assert (error.code, "not known here" in error.seen) == ("not-enough", True)


def test_it_is_asked_and_says_that_there_is_not_enough(site, line):
    roof = site.add("roof")
    site.activate(roof, (line, 5))
    site.add("cellar")
    cellar = [planning.find_field_server(records(site), "cellar")]
    site.inventory.plan([planned(roof, line, 5)], now=1)
    error = refused(planning.assign, site.inventory, ["smartdriver=5"], cellar, now=1, ask=asking(site))
    assert (error.code, "said 0 available" in error.seen) == ("not-enough", True), error.seen


def test_what_was_bought_since_is_known_when_it_was_asked(site, line):
    roof = site.add("roof")
    raised = LineChange(quantity=9)
    site.bench.store.transact(
        lambda tx: change_line(tx, site.bench.signer, line.line_id, raised, by="ann", now=site.now)
    )
    planning.assign(site.inventory, ["smartdriver=9"], records(site), now=1, ask=asking(site))
    assert site.activate(roof, (line, 9)).result == "done"


def test_what_is_planned_and_not_taken_yet_counts_against_what_is_available(site, line):
    site.add("roof")
    site.add("cellar")
    roof, cellar = (planning.find_field_server(records(site), name) for name in ("roof", "cellar"))
    site.inventory.keep_available({line.line_id: 5}, now=1)
    planning.assign(site.inventory, ["smartdriver=3"], [roof], now=1)
    assert refused(planning.assign, site.inventory, ["smartdriver=3"], [cellar], now=1).code == "not-enough"
    site.activate(site.servers[roof.address], (line, 3))
    assert refused(planning.assign, site.inventory, ["smartdriver=3"], [cellar], now=1).code == "not-enough"
