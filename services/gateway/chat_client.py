"""Who answers: any OpenAI-compatible chat server, or, with none configured, one who repeats and asks back."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import httpx

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import Unreachable

_SESSIONS, _TURNS = 200, 12
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_OPENERS = ("I see.", "Okay.", "Right.", "Oh.")
"""Short ones are spoken at once, while the voice works on the rest."""
_QUESTIONS = (
    "What made you think of that?",
    "Can you tell me more about it?",
    "How did that make you feel?",
    "And what happened then?",
    "Why is that important to you?",
)


class ChatClient:
    """Remembers the last turns of each session. For one event loop."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._turns: OrderedDict[str, list[tuple[str, str]]] = OrderedDict()
        self._http = httpx.AsyncClient(timeout=_TIMEOUT)

    async def close(self) -> None:
        await self._http.aclose()

    def remember(self, session_id: str, asked: str, said: str) -> None:
        turns = self._turns.setdefault(session_id, [])
        turns.append((asked, said))
        del turns[:-_TURNS]
        self._turns.move_to_end(session_id)
        while len(self._turns) > _SESSIONS:
            self._turns.popitem(last=False)

    def forget(self, session_id: str) -> None:
        self._turns.pop(session_id, None)

    async def answer(self, session_id: str, text: str) -> AsyncIterator[str]:
        """Pieces as they are written. Raises Unreachable."""
        turns = self._turns.get(session_id, [])
        if not self._config.chat_url:
            yield _ask_back(text, len(turns))
            return
        async for piece in self._chat(self._messages(turns, text)):
            yield piece

    def _messages(self, turns: list[tuple[str, str]], text: str) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": self._config.chat_prompt}]
        for asked, said in turns:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said or "..."}]
        return [*messages, {"role": "user", "content": text}]

    async def _chat(self, messages: list[dict[str, str]]) -> AsyncIterator[str]:
        url = self._config.chat_url.rstrip("/") + "/chat/completions"
        headers = {"Authorization": f"Bearer {self._config.chat_key}"} if self._config.chat_key else {}
        body = {"model": self._config.chat_model, "messages": messages, "stream": True}
        try:
            async with self._http.stream("POST", url, json=body, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    raise rejection_error("chat", response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if piece := _delta(line):
                        yield piece
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable_error("chat", self._config.chat_url, error) from error


def rejection_error(kind: str, status: int, body: bytes) -> Unreachable:
    """A server that answers with an error."""
    text = " ".join(body[:300].decode("utf-8", "replace").split())
    return Unreachable(f"the {kind} server refused with {status}: {text}", f"Check gateway.{kind}_url, _key and _model")


def unreachable_error(kind: str, url: str, error: Exception) -> Unreachable:
    words = str(error) or type(error).__name__
    return Unreachable(f"the {kind} server {url} does not answer ({words})", f"Start it, or clear gateway.{kind}_url")


def _delta(line: str) -> str:
    """The text in a line of the stream; lines of other kinds have none."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return ""
    try:
        message: Any = json.loads(data)["choices"][0]["delta"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return message if isinstance(message, str) else ""


def _ask_back(text: str, turn: int) -> str:
    said = " ".join(text.split()).rstrip(".!?…")[:300]
    return f"{_OPENERS[turn % len(_OPENERS)]} You said: {said}. {_QUESTIONS[turn % len(_QUESTIONS)]}"
