"""Row 12: in any file, in any order, what frees is decided before what takes; on both databases, at every entrance."""

import itertools

import pytest

from support.activation import Bench, Device
from support.served import Data, Served
from tallystick.activation.core import exchanges
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.strangers import ADDRESS_AT_ONCE
from tallystick.activation.services import messages

MANY = 2 * exchanges.CHUNK_LINES_MAX


def freeing(bench_or_site, device):
    """What ``device`` says when it has given back all it holds: its confirm, which frees."""
    (row,) = bench_or_site.post(device.give_back())
    reply = row["reply"].split("\n")[0] if isinstance(row, dict) else row.reply[0]
    device.take(reply)
    return device.say("confirm")


@pytest.fixture
def story(site):
    """A line of eight that roof holds and gives back; cellar wants them. What each says, in that order."""
    (line,) = site.sell("Harbour", ("smartdriver", 8)).lines
    roof, cellar = site.activated(site.device("roof"), (line, 8)), site.device("cellar")
    return line, freeing(site, roof), cellar.activate((line, 8)), site


def outcomes(rows):
    return [row["outcome"] for row in rows]


def test_an_activation_in_front_of_the_confirm_that_frees_for_it_is_granted(story):
    line, frees, takes, site = story
    assert outcomes(site.post(takes, frees)) == ["granted", "credited"]
    assert site.line(line.line_id).balances.held == 8


@pytest.mark.parametrize("place", [0, 1, exchanges.CHUNK_LINES_MAX, MANY - 1])
def test_also_across_a_long_file_and_every_line_has_its_answer_in_its_place(story, place):
    line, frees, takes, site = story
    (other,) = site.sell("Harbour", ("smartdriver", 9_999)).lines
    rest = [site.device(f"other {number}").activate((other, 1)) for number in range(MANY)]
    lines = [*rest[:place], takes, *rest[place:], "no envelope", frees]
    rows = site.post(*lines)
    assert [row["line_number"] for row in rows] == list(range(1, len(lines) + 1))
    assert outcomes(rows) == [*["granted"] * (MANY + 1), "error", "credited"]
    assert outcomes(site.post(*lines)) == outcomes(rows)
    assert rows[place]["device_id"] == Device("cellar").id
    assert site.line(line.line_id).balances.held == 8


def test_the_replies_of_a_long_file_are_in_its_order_too_as_a_tally_file(story):
    _line, frees, takes, site = story
    (other,) = site.sell("Harbour", ("smartdriver", 9_999)).lines
    rest = [site.device(f"other {number}").activate((other, 1)) for number in range(MANY)]
    lines = "\n".join([takes, *rest, frees])
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    tally = client.post("/v1/messages", content=lines, headers={"Accept": "application/x-tally"})
    rows = client.post("/v1/messages", content=lines, headers={"Accept": "application/json"}).json()
    assert tally.text.split() == [reply for row in rows for reply in row["reply"].split()]
    assert int(tally.headers["content-length"]) == len(tally.content)


def test_a_roll_out_of_more_than_an_address_may_say_at_once_is_taken_whole(site):
    (line,) = site.sell("Harbour", ("smartdriver", 9_999)).lines
    lines = [site.device(f"new {number}").activate((line, 1)) for number in range(ADDRESS_AT_ONCE + 100)]
    assert set(outcomes(site.post(*lines))) == {"granted"}


def test_also_in_an_upload_of_several_files(story):
    line, frees, takes, site = story
    files = [("first.tally", [takes.encode()]), ("second.tally", [frees.encode()])]
    done = messages.deliver(site.office, site.root, files)
    assert [(row.file, row.outcome) for row in done.rows] == [("first.tally", "granted"), ("second.tally", "credited")]
    assert site.line(line.line_id).balances.held == 8


def test_also_by_the_command_whose_rows_stay_in_order(tmp_path):
    data = Data(tmp_path / "activation").init()
    (line,) = data.buy("smartdriver=8").lines
    (other,) = data.buy("smartdriver=9999").lines
    roof, cellar, up, down = Device("roof"), Device("cellar"), tmp_path / "up.tally", tmp_path / "down.tally"

    def post(*compacts):
        up.write_text("\n".join(compacts))
        return data.ok("message", str(up), "-o", str(down))

    for say in (lambda: roof.activate((line, 8)), roof.give_back):
        roof.take(post(say())[0]["reply"].split("\n")[0])
    rest = [Device(f"other {number}").activate((other, 1)) for number in range(MANY)]
    rows = post(cellar.activate((line, 8)), *rest, roof.say("confirm"))
    assert [row["line_number"] for row in rows] == list(range(1, MANY + 3))
    assert outcomes(rows) == [*["granted"] * (MANY + 1), "credited"]
    replies = [one for row in rows for one in row["reply"].split("\n")]
    assert [one for one in down.read_text().splitlines() if not one.startswith("#")][1:] == replies


def test_who_activates_and_proves_in_one_message_frees_for_others_first():
    bench = Bench()
    left, right = bench.buy(8), bench.buy(8)
    roof, cellar = Device("roof"), Device("cellar")
    for device, line in ((roof, left), (cellar, right)):
        device.take(bench.grant(device.activate((line, 8)))[1])
        device.take(bench.grant(device.give_back())[1])
    answers = bench.post(roof.activate((right, 8)), cellar.activate((left, 8)))
    assert [answer.outcome for answer in answers] == ["granted", "granted"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_in_whatever_order_they_stand_all_get_what_there_is_enough_of(order):
    """Each of three is waited for by the one before: what the first takes, the second frees behind its own wish."""
    bench = Bench()
    line, small = bench.buy(8), bench.buy(1)
    roof, cellar, tower = Device("roof"), Device("cellar"), Device("tower")
    roof.take(bench.grant(roof.activate((line, 8)))[1])
    given_back = bench.grant(roof.give_back())[1]
    wish = roof.activate((small, 1))
    roof.take(given_back)
    told = [wish, roof.say("confirm"), cellar.activate((line, 5)), tower.activate((line, 3))]
    answers = bench.post(*(told[place] for place in order))
    found = {place: answer.outcome for place, answer in zip(order, answers, strict=True)}
    assert found == {0: "granted", 1: "credited", 2: "granted", 3: "granted"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def served(request, tmp_path):
    """A process, with its fast path and the batches of its engine."""
    options = []
    if request.param == "postgresql":
        options = ["--database", request.getfixturevalue("cluster").new_database()]
    data = Data(tmp_path / "activation").init(*options)
    running = Served(data.path)
    yield data, running
    assert running.stop() == (0, "")


@pytest.mark.slow
def test_also_through_the_fast_path_of_a_real_process(served):
    data, running = served
    (line,) = data.buy("smartdriver=8").lines
    roof, cellar = Device("roof"), Device("cellar")
    for say in (lambda: roof.activate((line, 8)), roof.give_back):
        roof.take(running.post(say()).envelopes[0])
    takes, frees = cellar.activate((line, 8)), roof.say("confirm")
    assert [running.post(takes, frees).status, *outcomes(running.rows(takes, frees))] == [200, "granted", "credited"]
