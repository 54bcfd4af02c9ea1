"""What people and programs may do here, for the API and the pages alike: checked, within their scope, written down.

Every function takes who asks. It checks the permission, sees only what is within the caller's scope, and writes the
audit trail in the same transaction as what it does.
"""

from tallystick.activation.services.base import IdempotentRequest, Office, OfficeError, record

__all__ = ["IdempotentRequest", "Office", "OfficeError", "record"]
