"""Every error a caller can meet, named by cause. One interceptor maps them to gRPC codes.

    WarmtalkError
    ├── InvalidInput     INVALID_ARGUMENT     the request cannot be served as it is
    │   └── BadMedia     INVALID_ARGUMENT     the file is not what it should be
    ├── NotFound         NOT_FOUND            no such avatar, session or upload
    ├── AlreadyExists    ALREADY_EXISTS       the id is taken by something else
    ├── NotReady         FAILED_PRECONDITION  still building, not prepared, a tool is missing
    ├── Busy             RESOURCE_EXHAUSTED   try again after `retry_after_s`
    ├── StorageFull      RESOURCE_EXHAUSTED   the volume has no room
    ├── Unauthenticated  UNAUTHENTICATED      no API key, or a wrong one
    ├── Interrupted      ABORTED              somebody reset or interrupted it
    ├── Damaged          DATA_LOSS            a file on the volume is broken
    └── Unreachable      UNAVAILABLE          a service this one needs does not answer

Anything else is a bug: the caller sees INTERNAL with an id, the text stays in the log.
"""

from __future__ import annotations


class WarmtalkError(Exception):
    """`message` says what happened and why; `hint` says what to do next."""

    reason = "INTERNAL"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InvalidInput(WarmtalkError):
    """`field` is the request field to blame, for google.rpc.BadRequest."""

    reason = "INVALID_INPUT"

    def __init__(self, message: str, hint: str = "", *, field: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class BadMedia(InvalidInput):
    reason = "BAD_MEDIA"


class NotFound(WarmtalkError):
    reason = "NOT_FOUND"


class AlreadyExists(WarmtalkError):
    reason = "ALREADY_EXISTS"


class NotReady(WarmtalkError):
    reason = "NOT_READY"


class Busy(WarmtalkError):
    reason = "BUSY"

    def __init__(self, message: str, hint: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class StorageFull(WarmtalkError):
    reason = "STORAGE_FULL"


class Unauthenticated(WarmtalkError):
    reason = "UNAUTHENTICATED"


class Interrupted(WarmtalkError):
    reason = "INTERRUPTED"


class Damaged(WarmtalkError):
    reason = "DAMAGED"


class Unreachable(WarmtalkError):
    reason = "UNREACHABLE"
