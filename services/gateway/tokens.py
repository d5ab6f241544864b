"""Short-lived page tokens. A page works on one session with a token, so that the API key never reaches a browser.

Format: SESSION.EXPIRES.END.MAC. The token is valid until EXPIRES and can be renewed until END, both in Unix seconds.
Tokens contain no secret and need no store; a new API key invalidates all of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

LIFE_S = 12 * 3600.0
"""Period after the first issue in which a token can be renewed, in seconds."""


@dataclass(frozen=True, slots=True)
class Token:
    """Content of a valid token; times in Unix seconds."""

    session_id: str
    expires: int
    end: int


class Tokens:
    """Issues and verifies tokens with a secret derived from the API key."""

    def __init__(self, api_key: str, minutes: float) -> None:
        """`minutes` is the life of a token before renewal."""
        self._secret = hashlib.sha256(b"warmtalk page token\0" + api_key.encode()).digest()
        self._seconds = minutes * 60

    def issue(self, session_id: str, now: float, end: float | None = None) -> tuple[str, Token]:
        """Returns (token text, token content). For a renewal `end` is the end of the token to renew."""
        last = now + LIFE_S if end is None else end
        token = Token(session_id, int(min(now + self._seconds, last)), int(last))
        body = f"{token.session_id}.{token.expires}.{token.end}"
        return f"{body}.{self._mac(body)}", token

    def read(self, text: str, now: float) -> Token | None:
        """Returns the content of a token, or None if the token is forged, malformed or expired."""
        body, _, mac = text.rpartition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode()):
            return None
        session_id, expires, end = body.split(".")
        return Token(session_id, int(expires), int(end)) if now < int(expires) else None

    def _mac(self, body: str) -> str:
        digest = hmac.digest(self._secret, body.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
