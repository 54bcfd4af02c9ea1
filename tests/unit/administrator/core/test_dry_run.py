"""What a dry run says is what then happens; and what would be refused is refused for the reason that was foreseen."""

from tallystick.administrator.core.dry_run import PredictedEffect, foresee
from tallystick.administrator.core.goals import Activate, Refresh, Return, ReturnOneCarry, Sync, TakeOutOfService
from tallystick.administrator.core.pinning import parse_candidates
from tallystick.administrator.memory.inventory import Assignment
from tallystick.administrator.report.site import make_report, report_csv


def wants(line, *pairs):
    return {
        server.id: Activate(
            wants=(
                Assignment(
                    device_id=server.id, line_id=line.line_id, activation_id=str(line.activation_id), quantity=quantity
                ),
            )
        )
        for server, quantity in pairs
    }


def seen(site, goals):
    site.workflows().look()
    records, lines = site.inventory.field_servers(), site.inventory.lines()
    return foresee(goals, records, lines=lines, now=site.now)


def test_the_last_license_is_foreseen_for_one_of_two_and_so_it_happens(site):
    line = site.bench.buy(1)
    site.know(line)
    roof, cellar = site.add("roof"), site.add("cellar")
    goals = wants(line, (roof, 1), (cellar, 1))
    first, second = seen(site, goals)
    assert (first.effect, first.before, first.after) == (PredictedEffect.GRANTED, 0, 1)
    assert (second.effect, second.code) == (PredictedEffect.REFUSED, "not-enough")
    reports = site.workflows().run(goals)
    assert sorted(report.result for report in reports) == ["done", "refused"]


def test_what_was_given_back_without_this_computer_is_foreseen_as_the_activation_server_says(site):
    line = site.bench.buy(5)
    site.know(line)
    roof, cellar = site.add("roof"), site.add("cellar")
    site.workflows().run(wants(line, (roof, 5)))
    site.workflows().look()
    records = site.inventory.field_servers()
    site.give_back(roof)
    for record in records:  # seen by nobody here
        site.inventory.keep_report(record.report, now=site.now)
    goals, foreseen = wants(line, (cellar, 5)), {}
    for available, said_at in ((None, 0), (5, site.now - 9), (5, site.now), (0, site.now)):
        if available is not None:
            site.inventory.keep_available({line.line_id: available}, now=said_at)
        (row,) = foresee(goals, records, lines=site.inventory.lines(), now=site.now)
        foreseen[available, said_at - site.now] = row.effect
    assert list(foreseen.values()) == [
        PredictedEffect.REFUSED,
        PredictedEffect.GRANTED,
        PredictedEffect.GRANTED,
        PredictedEffect.REFUSED,
    ]


def test_a_kind_that_it_does_not_apply_to_is_foreseen(site):
    line = site.bench.buy(3, sku="logs")
    site.know(line)
    (row,) = seen(site, wants(line, (site.add("cellar", kind="AS-B"), 1)))
    assert (row.effect, row.code) == (PredictedEffect.REFUSED, "kind-mismatch")


def test_what_cannot_be_returned_is_foreseen_however_less_of_it_is_asked_for(site):
    line = site.bench.buy(3, sku="fixed")
    site.know(line)
    roof = site.add("roof")
    site.workflows().run(wants(line, (roof, 2)))
    for goals in (wants(line, (roof, 1)), {roof.id: Return()}):
        (row,) = seen(site, goals)
        assert (row.effect, row.code) == (PredictedEffect.REFUSED, "not-returnable")
        assert [report.result for report in site.workflows().run(goals)] == ["refused"]


def test_a_return_of_all_and_one_that_raises_are_foreseen(site):
    line = site.bench.buy(3)
    site.know(line)
    roof = site.add("roof")
    site.workflows().run(wants(line, (roof, 2)))
    (row,) = seen(site, {roof.id: Return()})
    assert (row.effect, row.before, row.after) == (PredictedEffect.RETURNED, 2, 0)
    (row,) = seen(site, {roof.id: Return(wants=((line.line_id, 3),))})
    assert (row.effect, row.code) == (PredictedEffect.REFUSED, "return-raises")
    (row,) = seen(site, {roof.id: ReturnOneCarry()})
    assert row.effect in {PredictedEffect.RETURNED, PredictedEffect.REFUSED}
    (row,) = seen(site, {roof.id: TakeOutOfService()})
    assert (row.effect, row.before, row.after) == (PredictedEffect.RETURNED, 2, 0)
    site.workflows().run({roof.id: TakeOutOfService()})
    (row,) = seen(site, {roof.id: TakeOutOfService()})
    assert row.effect is PredictedEffect.UNCHANGED
    cellar = site.add("cellar")
    site.workflows().run({cellar.id: Sync()})
    (row,) = seen(site, {cellar.id: TakeOutOfService()})
    assert row.effect is PredictedEffect.ASKED
    (row,) = seen(site, {roof.id: Refresh()})
    assert row.effect is PredictedEffect.ASKED


def test_one_that_cannot_be_reached_is_foreseen_as_such(site):
    roof = site.add("roof")
    site.cut.add("roof")
    (row,) = seen(site, {roof.id: Return()})
    assert (row.effect, row.code) == (PredictedEffect.REFUSED, "unreachable")
    assert row.next_step


def test_a_csv_file_with_semicolons_a_mark_and_other_columns_is_read():
    (one,) = parse_candidates("\ufeffAddress;Site;Password\r\n10.0.0.7:8443;Süd;p\r\n".encode())
    assert (one.address, one.site, one.password) == ("https://10.0.0.7:8443", "Süd", "p")
    (one,) = parse_candidates(b"roof,10.0.0.7,p,North\n")
    assert (one.name, one.address, one.site) == ("roof", "https://10.0.0.7", "North")


def test_no_cell_of_the_csv_report_is_a_formula(site):
    site.add("=HYPERLINK(1)")
    site.workflows().look()
    report = make_report(site.inventory, site.mailbag, site.workflows().standings(), site="", now=site.now)
    assert b"'=HYPERLINK(1)" in report_csv(report)
    assert b"\n=" not in report_csv(report)
