"""Chat client for any OpenAI-compatible server. Without one, a built-in bot echoes the user and asks a question."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import httpx

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import Unreachable

_MAX_SESSIONS, _MAX_TURNS = 200, 12
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_OPENERS = ("I see.", "Okay.", "Right.", "Oh.")
"""Short first sentences: spoken at once, while the rest of the answer is synthesized."""
_QUESTIONS = (
    "What made you think of that?",
    "Can you tell me more about it?",
    "How did that make you feel?",
    "And what happened then?",
    "Why is that important to you?",
)


class ChatClient:
    """Streams answers and keeps the last turns of each session as context. For one event loop."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._turns: OrderedDict[str, list[tuple[str, str]]] = OrderedDict()
        self._http = httpx.AsyncClient(timeout=_TIMEOUT)

    async def close(self) -> None:
        """Closes the HTTP connections."""
        await self._http.aclose()

    def add_turn(self, session_id: str, question: str, answer: str) -> None:
        """Appends a turn to the session's history. Drops the oldest turns, and the least recently used sessions."""
        turns = self._turns.setdefault(session_id, [])
        turns.append((question, answer))
        del turns[:-_MAX_TURNS]
        self._turns.move_to_end(session_id)
        while len(self._turns) > _MAX_SESSIONS:
            self._turns.popitem(last=False)

    def forget_session(self, session_id: str) -> None:
        """Deletes the session's history."""
        self._turns.pop(session_id, None)

    async def stream_answer(self, session_id: str, text: str) -> AsyncIterator[str]:
        """Yields the answer to `text` in chunks as written by the chat server. Raises Unreachable."""
        turns = self._turns.get(session_id, [])
        if not self._config.chat_url:
            yield _echo_answer(text, len(turns))
            return
        async for chunk in self._chat(self._messages(turns, text)):
            yield chunk

    def _messages(self, turns: list[tuple[str, str]], text: str) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": self._config.chat_prompt}]
        for question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer or "..."}]
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
                    if text := _delta_text(line):
                        yield text
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable_error("chat", self._config.chat_url, error) from error


def rejection_error(kind: str, status: int, body: bytes) -> Unreachable:
    """Returns the error for an HTTP status other than 200. `kind` is "chat" or
    "transcriptions", as in the configuration keys.
    """
    text = " ".join(body[:300].decode("utf-8", "replace").split())
    return Unreachable(
        f"the {kind} server refused with {status}: {text}",
        f"Check gateway.{kind}_url, gateway.{kind}_key and gateway.{kind}_model",
    )


def unreachable_error(kind: str, url: str, error: Exception) -> Unreachable:
    """Returns the error for a server at `url` without a usable answer."""
    cause = str(error) or type(error).__name__
    return Unreachable(
        f"the {kind} server {url} does not answer ({cause})", f"Start that server, or clear gateway.{kind}_url"
    )


def _delta_text(line: str) -> str:
    """Returns the text in a line of the event stream; empty for other lines."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return ""
    try:
        content: Any = json.loads(data)["choices"][0]["delta"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return content if isinstance(content, str) else ""


def _echo_answer(text: str, turn: int) -> str:
    echo = " ".join(text.split()).rstrip(".!?…")[:300]
    return f"{_OPENERS[turn % len(_OPENERS)]} You said: {echo}. {_QUESTIONS[turn % len(_QUESTIONS)]}"
