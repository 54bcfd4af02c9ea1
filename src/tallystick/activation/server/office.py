"""The office on an open activation server: for the process that serves, and for commands on its data."""

from __future__ import annotations

from tallystick.activation.server.instance import Activation
from tallystick.activation.services import Office
from tallystick.activation.services.batcher import Batcher


def make_office(activation: Activation, batcher: Batcher) -> Office:
    """What people do here, on the data of ``activation``."""
    return Office(
        store=activation.store,
        signer=activation.signer,
        policy=activation.settings.policy,
        batcher=batcher,
        clock=activation.now,
        random_bytes=activation.random_bytes,
        public_url=activation.settings.public_url,
        webhooks_inside=activation.settings.webhooks.allow_private,
    )
