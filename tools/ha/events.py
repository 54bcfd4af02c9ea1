"""What happens to the cluster while clients talk, one thing after the other.

Each begins with a whole cluster and ends with one. It gives the moment from which a new leader is waited for, and says
what it does on the way.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ha.cluster import Cluster, Member
from ha.processes import NotInTimeError, is_running, signal_all

CUT_SECONDS: Final = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens; ``work`` gives how long another leader took, in seconds, or None where none was needed."""

    name: str
    work: Callable[[Cluster, Say], float | None]


def leader_killed(cluster: Cluster, say: Say) -> float:
    """A power cut: Patroni and PostgreSQL are gone at once."""
    old = cluster.leader()
    begun = time.monotonic()
    cluster.kill_machine(old)
    say(f"{old.name}, the leader, is dead")
    took = _another(cluster, old, begun, say)
    cluster.launch_member(old)
    return took


def server_killed(cluster: Cluster, say: Say) -> None:
    """PostgreSQL alone dies on the leader; its Patroni starts it again."""
    old = cluster.leader()
    cluster.processes.kill(old.server_pids)
    say(f"PostgreSQL of {old.name}, the leader, is dead; its Patroni lives")
    time.sleep(1)


def standby_cut(cluster: Cluster, say: Say) -> None:
    """The wire of the synchronous standby is pulled: no commit ends until another one is in step."""
    standby = cluster.standby(synchronous=True)
    cluster.wires.cut(standby.name)
    say(f"{standby.name}, the synchronous standby, is cut off")
    time.sleep(CUT_SECONDS)
    cluster.wires.heal(standby.name)
    say(f"{standby.name} is back on the network")


def standby_frozen(cluster: Cluster, say: Say) -> None:
    """The machine of the other standby stands still (SIGSTOP)."""
    standby = cluster.standby(synchronous=False)
    pids = standby.pids
    signal_all(pids, signal.SIGSTOP)
    say(f"{standby.name}, a standby, stands still")
    time.sleep(CUT_SECONDS)
    signal_all(pids, signal.SIGCONT)


def standbys_frozen(cluster: Cluster, say: Say) -> None:
    """Both standbys stand still: the leader is well, but alone, and takes nothing until one of them has it, too."""
    leader = cluster.leader()
    pids = [pid for member in cluster.members.values() if member is not leader for pid in member.pids]
    signal_all(pids, signal.SIGSTOP)
    say("both standbys stand still")
    time.sleep(2 * CUT_SECONDS)
    signal_all(pids, signal.SIGCONT)


def leader_cut(cluster: Cluster, say: Say) -> float:
    """The wire of the leader is pulled: it must step back by itself, and nothing that it took alone was answered."""
    old = cluster.leader()
    begun = time.monotonic()
    cluster.wires.cut(old.name)
    say(f"{old.name}, the leader, is cut off")
    try:
        return _another(cluster, old, begun, say)
    finally:
        cluster.wires.heal(old.name)
        say(f"{old.name} is back on the network")


def patroni_frozen(cluster: Cluster, say: Say) -> float:
    """Patroni of the leader stands still and its PostgreSQL goes on: for a while two believe that they lead."""
    old = cluster.leader()
    assert old.process is not None
    begun = time.monotonic()
    signal_all([old.process.pid], signal.SIGSTOP)
    say(f"Patroni of {old.name}, the leader, stands still; its PostgreSQL does not")
    try:
        took = _another(cluster, old, begun, say)
        if not is_running(old.postmaster or 0):
            raise NotInTimeError(f"PostgreSQL of {old.name} was to go on")
        time.sleep(2)
        return took
    finally:
        signal_all([old.process.pid], signal.SIGCONT)


def switched_over(cluster: Cluster, say: Say) -> float:
    """A planned switch-over to the synchronous standby."""
    old, new = cluster.leader(), cluster.standby(synchronous=True)
    begun = time.monotonic()
    say(f"from {old.name} to {new.name}, as planned")
    cluster.switch_over(old, new)
    return _another(cluster, old, begun, say)


def standbys_restarted(cluster: Cluster, say: Say) -> None:
    """Both standbys, one after the other."""
    leader = cluster.leader()
    for member in [member for member in cluster.members.values() if member is not leader]:
        say(f"{member.name}, a standby, ends and starts")
        cluster.restart_machine(member)
        cluster.settle()


def leader_restarted(cluster: Cluster, say: Say) -> float:
    """Patroni of the leader is told to end, and takes its PostgreSQL with it."""
    old = cluster.leader()
    assert old.process is not None
    begun = time.monotonic()
    say(f"{old.name}, the leader, ends")
    cluster.processes.stop(old.process)
    took = _another(cluster, old, begun, say)
    cluster.launch_member(old)
    return took


def etcd_restarted(cluster: Cluster, say: Say) -> None:
    """One etcd after the other."""
    for etcd in cluster.etcds:
        assert etcd.process is not None
        say(f"{etcd.name} ends and starts")
        cluster.processes.stop(etcd.process)
        time.sleep(1)
        cluster.launch_etcd(etcd)
        cluster.wait_for_etcd(etcd)


def etcd_gone(cluster: Cluster, say: Say) -> None:
    """All etcd are killed: the leader goes on as long as it reaches both others."""
    cluster.processes.kill([etcd.process.pid for etcd in cluster.etcds if etcd.process is not None])
    say("all etcd are dead")
    time.sleep(CUT_SECONDS)
    for etcd in cluster.etcds:
        cluster.launch_etcd(etcd)
    for etcd in cluster.etcds:
        cluster.wait_for_etcd(etcd)
    say("all etcd are back")


def proxies_restarted(cluster: Cluster, say: Say) -> None:
    """One HAProxy after the other is killed and starts again."""
    for server in cluster.servers:
        assert server.proxy is not None
        say(f"HAProxy beside {server.name} is killed and starts")
        cluster.processes.kill([server.proxy.pid])
        time.sleep(1)
        cluster.launch_proxy(server)
        time.sleep(1)


def servers_restarted(cluster: Cluster, say: Say) -> None:
    """One activation server after the other: at SIGTERM the first, by kill -9 the second."""
    for server, number in zip(cluster.servers, (signal.SIGTERM, signal.SIGKILL), strict=True):
        say(f"{server.name} ends at {signal.Signals(number).name} and starts")
        cluster.restart_server(server, number)


EVENTS: Final = (
    Event(name="leader killed (kill -9 of its machine)", work=leader_killed),
    Event(name="PostgreSQL alone killed on the leader", work=server_killed),
    Event(name="synchronous standby cut off the network", work=standby_cut),
    Event(name="the other standby stands still (SIGSTOP)", work=standby_frozen),
    Event(name="both standbys stand still for 20 s", work=standbys_frozen),
    Event(name="leader cut off the network", work=leader_cut),
    Event(name="leader's Patroni stands still, PostgreSQL goes on", work=patroni_frozen),
    Event(name="planned switch-over", work=switched_over),
    Event(name="each standby restarted", work=standbys_restarted),
    Event(name="leader restarted", work=leader_restarted),
    Event(name="each etcd restarted", work=etcd_restarted),
    Event(name="all etcd killed for 10 s", work=etcd_gone),
    Event(name="each HAProxy killed and restarted", work=proxies_restarted),
    Event(name="each activation server ended and restarted", work=servers_restarted),
)


def _another(cluster: Cluster, old: Member, begun: float, say: Say) -> float:
    new = cluster.new_leader(old)
    took = time.monotonic() - begun
    say(f"{new.name} leads after {took:.1f} s")
    return took
