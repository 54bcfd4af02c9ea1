"""A disk that loses, tears, fills up and crashes on demand."""

import errno


class CrashError(BaseException):
    """The machine lost its power."""


class FaultyDisk:
    """Synced bytes are safe; of unsynced ones, ``settle`` decides what survives a crash."""

    def __init__(self):
        self.durable = {}
        self.cached = {}
        self.syncs = 0
        self.crash_at = None  # the number of the next operation that crashes, before it happens
        self.fail_with = None  # an errno for every write and sync
        self.fail_syncs_only = False

    def read(self, name):
        return self.cached.get(name, self.durable.get(name))

    def write(self, name, data):
        self._step(is_sync=False)
        old = self.read(name) or b""
        self.cached[name] = data + old[len(data) :]

    def sync(self, name):
        self._step(is_sync=True)
        self.syncs += 1
        if name in self.cached:
            self.durable[name] = self.cached.pop(name)

    def settle(self, survives):
        """After a crash: ``survives(name, old, new)`` says what is found of unsynced bytes."""
        for name, new in self.cached.items():
            self.durable[name] = survives(name, self.durable.get(name, b""), new)
        self.cached.clear()
        self.crash_at = None

    def _step(self, *, is_sync):
        if self.fail_with is not None and (is_sync or not self.fail_syncs_only):
            raise OSError(self.fail_with, errno.errorcode[self.fail_with])
        if self.crash_at is not None:
            if self.crash_at == 0:
                raise CrashError
            self.crash_at -= 1
