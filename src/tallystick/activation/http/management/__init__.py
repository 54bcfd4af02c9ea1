"""The management API under ``/v1``: the office over HTTP, for programs with a token. No decision is made here."""

from tallystick.activation.http.management.dependencies import caller_of
from tallystick.activation.http.management.routes import add_management

__all__ = ["add_management", "caller_of"]
