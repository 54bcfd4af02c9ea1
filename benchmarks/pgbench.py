"""What PostgreSQL itself can do: the rows of one message of ours, written by pgbench, in the same run.

``SEVEN``: seven round trips in one transaction, as a program writes them that was not made fast: begin, lock the field
server, lock the line, update the one, update the other, add the entry, the holding, the grant and the stored reply,
commit. ``ONE``: the same rows in one statement.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from typing import Any, Final

from support.postgres import Cluster

DEVICES: Final = 1000
LINES: Final = 1000
SALTS: Final = 10**12

# Salt is drawn for columns of which nothing asks that they are unique. A key is made of the field server and of how many
# messages it has sent: two draws may well be the same in a long run.
_IDS = r"""\set device random(1, :devices)
\set line random(1, :lines)
\set salt random(1, :salts)
"""
_DEVICE = "lpad((:device)::text, 43, 'd')"
_LINE = "lpad((:line)::text, 8, '0')"
_UPDATE_DEVICE = f"""UPDATE field_servers SET sequence = sequence + 1, number = number + 1, spoken_epoch = epoch,
outstanding = '[[1,' || number || ',{{"' || {_LINE} || '":1}}]]', last_seen_at = last_seen_at + 1, kind = 'AS-P',
host_id = host_id, name = name, software = '1' WHERE device_id = {_DEVICE}"""
_UPDATE_LINE = f"""UPDATE lines SET available = available - 1, held = held + 1, entries = entries + 1,
chain = repeat(md5((:salt)::text), 2) WHERE line_id = {_LINE}"""
_ENTRY = f"""INSERT INTO entries SELECT line_id, {{number}}, account, 'available', 'held', 1, {_DEVICE},
repeat(md5((:salt)::text), 1), 1800000000, repeat(md5((:salt)::text), 2) FROM lines WHERE line_id = {_LINE}"""
_HOLDING = f"""INSERT INTO holdings VALUES ({_LINE}, {_DEVICE}, 'bench', 1, 0, 0, 1800000000)
ON CONFLICT (line_id, device_id) DO UPDATE SET held = holdings.held + 1"""
_GRANT = f"""INSERT INTO grants SELECT device_id, {{number}}, 'bench', 1, repeat(md5((:salt)::text), 1), 1800000000, NULL
FROM field_servers WHERE device_id = {_DEVICE}"""
_MESSAGE = f"""INSERT INTO messages SELECT substr(md5(device_id || ({{number}})) || md5(({{number}}) || device_id), 1, 43), device_id, 'bench',
1, {{number}}, 'activate', 1800000000, 'granted', NULL, '', repeat(md5((:salt)::text), 27)
FROM field_servers WHERE device_id = {_DEVICE}"""


def _rows(after: int) -> str:
    """The four added rows; ``after`` is 1 where the statement cannot see the updates."""
    return (
        f"WITH entry AS ({_ENTRY.format(number=f'entries + {after}')}), holding AS ({_HOLDING}), "
        f"granted AS ({_GRANT.format(number=f'number + {after}')}) {_MESSAGE.format(number=f'sequence + {after}')};\n"
    )


SEVEN: Final = (
    _IDS
    + "BEGIN;\n"
    + f"SELECT * FROM field_servers WHERE device_id = {_DEVICE} FOR UPDATE;\n"
    + f"SELECT * FROM lines WHERE line_id = {_LINE} FOR UPDATE;\n"
    + f"{_UPDATE_DEVICE};\n{_UPDATE_LINE};\n"
    + _rows(0)
    + "COMMIT;\n"
)
_SEED = f"""
INSERT INTO kinds VALUES ('AS-P', 0);
INSERT INTO products VALUES ('bench', 'Bench', '["AS-P"]', '{{"bench":1}}', true, true, false);
INSERT INTO entitlements VALUES ('EN-bench', 'bench', 0);
INSERT INTO lines SELECT lpad(n::text, 8, '0'), 'EN-bench', n, 'bench', 'bench', 'secret', NULL, false, false, false,
2000000000, 1000000000, 1000000000, 0, 0, 0, 1, 'chain' FROM generate_series(1, {LINES}) n;
INSERT INTO field_servers (device_id, public_key, account, kind, host_id, name, software, status, epoch, spoken_epoch,
sequence, number, proven, outstanding, first_seen_at, last_seen_at) SELECT lpad(n::text, 43, 'd'), 'key', 'bench', 'AS-P', 'host-' || n, 'bench ' || n, '1', 'active',
1, 1, 1, 1, 1, '[]', 0, 0 FROM generate_series(1, {DEVICES}) n;
ANALYZE;
"""


class Rival:
    """A database with our tables, and pgbench."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self.cluster = cluster
        self.database = url.split("/")[3].split("?", maxsplit=1)[0]
        for statement in _SEED.split(";\n"):
            if statement.strip():
                cluster.sql(statement, database=self.database)

    def run(self, clients: int, seconds: float, *, salts: int = SALTS) -> dict[str, Any]:
        """Transactions a second and their latency, with so many different salts."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(SEVEN)
            script.flush()
            command = ["pgbench", "-h", str(self.cluster.home), "-U", "tally", "-n", "-M", "prepared"]
            command += ["-c", str(clients), "-j", str(min(2, clients)), "-T", str(round(seconds)), "-f", script.name]
            command += ["-D", f"devices={DEVICES}", "-D", f"lines={LINES}", "-D", f"salts={salts}", self.database]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        failed = re.search(r"number of failed transactions: (\d+)", said)
        if failed and int(failed[1]):
            raise SystemExit(said)
        return {
            "rate": float(re.search(r"tps = ([\d.]+)", said)[1]),  # type: ignore[index]  # pgbench always says it
            "mean_ms": float(re.search(r"latency average = ([\d.]+)", said)[1]),  # type: ignore[index]  # the same
        }
