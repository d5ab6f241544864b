"""What one utterance of a live conversation is to say: texts or sounds as they come, out as speech."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import SpeechChunk, Voice
from warmtalk.core.types import Samples
from warmtalk.voices.sentences import is_speakable, split_complete_sentences, split_sentences

_MOST_WAITING_S = 30.0
_PIECE_S = 0.5
"""Speech is handed on in pieces of at most this length, which take well under a millisecond each to resample."""


class UtteranceInput:
    """One utterance, either of texts or of sounds. For one event loop: `add_...`, `end` and `room` from the reader of
    the client's messages, `pieces` once, in another task.
    """

    def __init__(self, voice: Voice, *, max_chars: int, max_s: float) -> None:
        self._voice = voice
        self._max_chars = max_chars
        self._max_s = max_s
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._new_text = ""
        self._sounds: deque[SpeechChunk] = deque()
        self._seconds = 0.0
        self._waiting_s = 0.0
        self._ended = False
        self.text = ""
        """All texts that came."""

    @property
    def ended(self) -> bool:
        return self._ended

    def add_text(self, text: str) -> None:
        """Raises InvalidInput."""
        if self._seconds:
            raise _mixed("text")
        self.text += text
        self._new_text += text
        if len(self.text) > self._max_chars:
            raise InvalidInput(f"text has {len(self.text)} characters", f"Send at most {self._max_chars}", field="text")
        self._changed.set()

    def add_sound(self, samples: Samples, rate_hz: int) -> None:
        """Raises InvalidInput."""
        if self.text:
            raise _mixed("pcm_s16le")
        self._seconds += len(samples) / rate_hz
        self._waiting_s += len(samples) / rate_hz
        if self._seconds > self._max_s:
            raise InvalidInput(
                f"the utterance is longer than {self._max_s:g} s", "End it and begin the next", field="pcm_s16le"
            )
        self._sounds.append(SpeechChunk(samples, rate_hz))
        self._changed.set()

    def end(self) -> None:
        """Nothing more will come. Idempotent."""
        self._ended = True
        self._changed.set()

    async def room(self) -> None:
        """Waits while more than 30 s of sound wait to be said."""
        while self._waiting_s > _MOST_WAITING_S and not self._ended:
            self._room.clear()
            await self._room.wait()

    def drop(self) -> None:
        """What waits is not wanted any more; lets a reader that waits for room go on."""
        self._sounds.clear()
        self._waiting_s = 0.0
        self._room.set()
        self.end()

    async def pieces(self) -> AsyncGenerator[SpeechChunk, None]:
        """All speech, in order, until the end. Raises InvalidInput for a text that cannot be said, and what the voice
        raises.
        """
        while True:
            for sentence in self._whole():
                async for piece in self._read_out(sentence):
                    yield piece
            while self._sounds:
                speech = self._sounds.popleft()
                self._waiting_s -= len(speech.samples) / speech.rate_hz
                self._room.set()
                for piece in _cut(speech):
                    yield piece
            if self._ended and not self._sounds and not self._new_text:
                break
            self._changed.clear()
            if not self._ended:
                await self._changed.wait()
        if self.text and not is_speakable(self.text):
            raise InvalidInput("text has no letter or digit to say", "Send words", field="text")

    def _whole(self) -> list[str]:
        if self._ended:
            found, self._new_text = split_sentences(self._new_text), ""
        else:
            found, self._new_text = split_complete_sentences(self._new_text)
        return found

    async def _read_out(self, sentence: str) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(cast(AsyncGenerator[SpeechChunk, None], self._voice.synthesize(sentence))) as spoken:
            async for speech in spoken:
                for piece in _cut(speech):
                    yield piece


def pcm(data: bytes, channels: int) -> Samples:
    """16-bit little-endian sound of 1 or 2 channels as their mean. Raises InvalidInput for a part of a sample."""
    size = 2 * channels
    if len(data) % size:
        raise InvalidInput(
            f"pcm_s16le has {len(data)} bytes, not a multiple of {size}",
            "Send whole 16-bit samples of all channels",
            field="pcm_s16le",
        )
    grid = np.frombuffer(data, "<i2").reshape(-1, channels)
    return np.asarray(grid.mean(axis=1, dtype=np.float32) / 32768, np.float32)


def _cut(speech: SpeechChunk) -> list[SpeechChunk]:
    step = max(1, int(_PIECE_S * speech.rate_hz))
    return [SpeechChunk(speech.samples[k : k + step], speech.rate_hz) for k in range(0, len(speech.samples), step)]


def _mixed(field: str) -> InvalidInput:
    return InvalidInput(
        "the utterance mixes text and sound", "Send one of them until `end`, then the other", field=field
    )
