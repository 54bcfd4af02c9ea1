"""The management API under ``/v1``: the office over HTTP, for programs with a token. No decision is made here."""

from tallystick.activation.management.routes import add_management
from tallystick.activation.management.wire import caller_of

__all__ = ["add_management", "caller_of"]
