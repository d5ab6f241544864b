"""Short-lived tokens with which a page works on one session, so that the key never reaches a browser.

A token is SESSION.EXPIRES.END.MAC: it is good until EXPIRES and may be renewed until END, both Unix seconds. It holds
nothing secret and needs no store; a changed key ends all of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

LIFE_S = 12 * 3600.0
"""How long a token can be renewed."""


@dataclass(frozen=True, slots=True)
class Token:
    session_id: str
    expires: int
    end: int


class Tokens:
    def __init__(self, api_key: str, minutes: float) -> None:
        self._secret = hashlib.sha256(b"warmtalk page token\0" + api_key.encode()).digest()
        self._seconds = minutes * 60

    def issue(self, session_id: str, now: float, end: float | None = None) -> tuple[str, Token]:
        """(the token, what it says); `end` is that of the token that is renewed."""
        last = now + LIFE_S if end is None else end
        token = Token(session_id, int(min(now + self._seconds, last)), int(last))
        body = f"{token.session_id}.{token.expires}.{token.end}"
        return f"{body}.{self._mac(body)}", token

    def read(self, text: str, now: float) -> Token | None:
        """None unless it is ours and still good."""
        body, _, mac = text.rpartition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode()):
            return None
        session_id, expires, end = body.split(".")
        return Token(session_id, int(expires), int(end)) if now < int(expires) else None

    def _mac(self, body: str) -> str:
        digest = hmac.digest(self._secret, body.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
