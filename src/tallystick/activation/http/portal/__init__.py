"""The web pages of the activation server: the office for people with a browser. No decision is made here."""

from tallystick.activation.http.portal.routes import add_portal

__all__ = ["add_portal"]
