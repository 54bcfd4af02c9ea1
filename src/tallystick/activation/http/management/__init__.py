"""The management API under ``/v1``: the office over HTTP, for programs with a token. No decision is made here."""

from tallystick.activation.http.management.dependencies import caller_of
from tallystick.activation.http.management.routes import add_management, add_module, add_office, module_of

__all__ = ["add_management", "add_module", "add_office", "caller_of", "module_of"]
