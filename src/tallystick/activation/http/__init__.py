"""What the activation server says over HTTP: the protocol, the management API, the portal, monitoring."""
