"""Spoken answer of the chat client: text is sent to the session service while the chat server is still writing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from warmtalk.core.errors import WarmtalkError
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.event_json import error_event
from warmtalk.services.gateway.live.converse_call import ConverseCall
from warmtalk.services.gateway.problems import internal_error


class ChatAnswer:
    """Runs at most one answer at a time for a live stream. For one event loop."""

    def __init__(
        self, chat: ChatClient, session_id: str, call: ConverseCall, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        """`publish` sends an event to every viewer."""
        self._chat = chat
        self._session_id = session_id
        self._call = call
        self._publish = publish
        self._task: asyncio.Task[None] | None = None

    async def start(self, text: str) -> None:
        """Starts the answer to `text`. Cancels the previous answer first."""
        await self.cancel()
        self._task = asyncio.create_task(self._answer(text))

    async def cancel(self) -> None:
        """Stops the answer; text already sent is still spoken."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _answer(self, text: str) -> None:
        answer = ""
        try:
            async for chunk in self._chat.stream_answer(self._session_id, text):
                answer += chunk
                self._publish({"event": "answer", "text": chunk})
                await self._call.send_text(chunk)
            await self._call.end_utterance()
        except WarmtalkError as error:
            self._publish(error_event(error))
        except Exception as error:  # noqa: BLE001 - this task has no caller: the viewers must get the error
            self._publish(error_event(internal_error(error)))
        finally:
            self._chat.add_turn(self._session_id, text, answer)
            self._publish({"event": "answered"})
