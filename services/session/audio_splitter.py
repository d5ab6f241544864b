"""Speech at any rate, in pieces, to the two rates that are needed, both of whole frames. Pure."""

from __future__ import annotations

import math

import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Samples
from warmtalk.media.audio_decode import Resampler

_TAIL = 64
"""16 kHz samples held back until the end, when the number of frames, and so of samples, is known."""
_FADE = 144
"""48 kHz samples, 3 ms, that fade before the silence that fills the last frame: a sound cut anywhere does not click."""


class AudioSplitter:
    """Speech at any rate as 48 kHz for people and 16 kHz for infer, both of the same whole number of frames."""

    def __init__(self, clock: FrameClock, first_frame: int) -> None:
        self._clock = clock
        self._first = first_frame
        self._rate = 0
        self._resamplers: tuple[Resampler, Resampler] | None = None
        self._loud = 0
        self._heard = 0
        self._tail = np.zeros(0, np.float32)
        self._end = np.zeros(0, np.float32)

    def accept(self, speech: SpeechChunk) -> tuple[Samples, Samples]:
        """(48 kHz, 16 kHz) samples that are ready."""
        before = self._flush() if speech.rate_hz != self._rate else _NOTHING
        if self._resamplers is None or speech.rate_hz != self._rate:
            self._rate = speech.rate_hz
            self._resamplers = Resampler(self._rate, CLIP_RATE_HZ), Resampler(self._rate, SPEECH_RATE_HZ)
        loud, heard = (resampler.resample(speech.samples) for resampler in self._resamplers)
        return self._give(np.concatenate([before[0], loud]), np.concatenate([before[1], heard]))

    def finish(self) -> tuple[Samples, Samples]:
        """The rest, with the 16 kHz sound brought to the length of the frames. Raises InvalidInput for no sound."""
        loud, heard = self._flush()
        self._loud += len(loud)
        loud = np.concatenate([self._end, loud])
        if not self._loud:
            raise InvalidInput("the voice finds nothing to say in this text", "Send words in a language that it speaks")
        left = math.floor(self.frames * SPEECH_RATE_HZ / self._clock.fps) - self._heard
        rest = np.concatenate([self._tail, heard])[:left]
        return self._faded(loud), np.pad(rest, (0, left - len(rest)))

    def _faded(self, loud: Samples) -> Samples:
        start = self._clock.samples_at(self._first, CLIP_RATE_HZ)
        if self._clock.samples_at(self._first + self.frames, CLIP_RATE_HZ) - start > self._loud:
            loud[-_FADE:] *= np.linspace(1, 0, min(_FADE, len(loud)), dtype=np.float32)
        return loud

    @property
    def frames(self) -> int:
        """Fewest frames that hold the sound, from where the clip starts."""
        end = self._clock.samples_at(self._first, CLIP_RATE_HZ) + self._loud
        last = self._clock.frames_for(end, CLIP_RATE_HZ)
        fits = self._clock.samples_at(last - 1, CLIP_RATE_HZ) >= end  # the clock rounds to whole samples
        return max(1, last - fits - self._first)

    def _flush(self) -> tuple[Samples, Samples]:
        if self._resamplers is None:
            return _NOTHING
        return self._resamplers[0].flush(), self._resamplers[1].flush()

    def _give(self, loud: Samples, heard: Samples) -> tuple[Samples, Samples]:
        self._loud += len(loud)
        loud, self._end = _hold_back(np.concatenate([self._end, loud]), _FADE)
        heard, self._tail = _hold_back(np.concatenate([self._tail, heard]), _TAIL)
        self._heard += len(heard)
        return loud, heard


_NOTHING: tuple[Samples, Samples] = (np.zeros(0, np.float32), np.zeros(0, np.float32))


def _hold_back(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """(all but the last `count`, the last `count`)."""
    cut = max(0, len(samples) - count)
    return samples[:cut], samples[cut:]
