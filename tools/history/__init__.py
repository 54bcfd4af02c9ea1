"""A history checker: what everybody saw of an activation server under ``kill -9`` must be something that could have been.

Real field servers, couriers that repeat themselves, people and terms that change work against two worker processes on
PostgreSQL, while workers, connections, backends and the whole database are killed (``world``, ``actors``). Every request is
written down with the moment before it was sent and the moment after it was answered (``record``). Afterwards ``checks``
compares that with the ledger, which says in which order things happened. ``python -m history`` runs it.
"""
