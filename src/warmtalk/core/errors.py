"""Errors for callers, named by cause. One interceptor maps each error to a gRPC status code.

    WarmtalkError
    ├── InvalidInput     INVALID_ARGUMENT     the request is invalid
    │   └── BadMedia     INVALID_ARGUMENT     the media file cannot be used
    ├── NotFound         NOT_FOUND            no such avatar, session or upload
    ├── AlreadyExists    ALREADY_EXISTS       the id is in use
    ├── NotReady         FAILED_PRECONDITION  still building, not prepared, or a tool is missing
    ├── Busy             RESOURCE_EXHAUSTED   try again after `retry_after_s`
    ├── StorageFull      RESOURCE_EXHAUSTED   the volume is full
    ├── Unauthenticated  UNAUTHENTICATED      the API key is missing or wrong
    ├── Interrupted      ABORTED              a reset or an interrupt ended the work
    ├── Damaged          DATA_LOSS            a file on the volume is broken
    └── Unreachable      UNAVAILABLE          a required service does not answer

Any other exception is a bug: the caller receives INTERNAL with an incident id, and the text stays in the log.
"""

from __future__ import annotations


class WarmtalkError(Exception):
    """Base class. `message` says which problem occurred and why; `hint` gives the next step."""

    reason = "INTERNAL"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InvalidInput(WarmtalkError):
    """The request is invalid. `field` names the request field, for google.rpc.BadRequest."""

    reason = "INVALID_INPUT"

    def __init__(self, message: str, hint: str = "", *, field: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class BadMedia(InvalidInput):
    """The media file is damaged, of an unsupported type, or without a usable face."""

    reason = "BAD_MEDIA"


class NotFound(WarmtalkError):
    """The avatar, session or upload does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(WarmtalkError):
    """The id is in use for something else."""

    reason = "ALREADY_EXISTS"


class NotReady(WarmtalkError):
    """The avatar is still building or not prepared, or a tool or a model is missing."""

    reason = "NOT_READY"


class Busy(WarmtalkError):
    """The server is at capacity. A client may try again after `retry_after_s` seconds."""

    reason = "BUSY"

    def __init__(self, message: str, hint: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class StorageFull(WarmtalkError):
    """The volume is full."""

    reason = "STORAGE_FULL"


class Unauthenticated(WarmtalkError):
    """The API key is missing or wrong."""

    reason = "UNAUTHENTICATED"


class Interrupted(WarmtalkError):
    """A reset or an interrupt ended the work."""

    reason = "INTERRUPTED"


class Damaged(WarmtalkError):
    """A file on the volume is damaged."""

    reason = "DAMAGED"


class Unreachable(WarmtalkError):
    """A required service does not answer."""

    reason = "UNREACHABLE"
