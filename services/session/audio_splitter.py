"""Resamples speech of any rate to 48 kHz for playback and 16 kHz for the model, both in whole frames. Pure."""

from __future__ import annotations

import math

import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Samples
from warmtalk.media.resampler import Resampler

_HELD_SAMPLES = 64
"""16 kHz samples held back to the end, when the number of frames, and therefore of samples, is known."""
_FADE_SAMPLES = 144
"""48 kHz samples, 3 ms, that fade out before the silence of the last frame, so that a cut does not click."""


class AudioSplitter:
    """Two resamplers of one utterance: 48 kHz playback audio and 16 kHz model audio.

    After `finish` both have the length of the same whole number of frames.
    """

    def __init__(self, clock: FrameClock, first_frame: int) -> None:
        """`first_frame` is the position of the utterance in the conversation."""
        self._clock = clock
        self._first = first_frame
        self._rate_hz = 0
        self._resamplers: tuple[Resampler, Resampler] | None = None
        self._playback_samples = 0
        self._model_samples = 0
        self._held_playback: Samples = np.zeros(0, np.float32)
        self._held_model: Samples = np.zeros(0, np.float32)

    def push_audio(self, speech: SpeechChunk) -> tuple[Samples, Samples]:
        """Returns the (48 kHz, 16 kHz) samples that are ready. The rate may change between calls."""
        rest = self._flush() if speech.rate_hz != self._rate_hz else _NOTHING
        if self._resamplers is None or speech.rate_hz != self._rate_hz:
            self._rate_hz = speech.rate_hz
            self._resamplers = Resampler(self._rate_hz, CLIP_RATE_HZ), Resampler(self._rate_hz, SPEECH_RATE_HZ)
        playback_audio, model_audio = (resampler.resample(speech.samples) for resampler in self._resamplers)
        return self._release(np.concatenate([rest[0], playback_audio]), np.concatenate([rest[1], model_audio]))

    def finish(self) -> tuple[Samples, Samples]:
        """Returns the remaining samples; the 16 kHz audio is cut or padded to the length of the frames.

        Raises InvalidInput when no audio was pushed.
        """
        playback_audio, model_audio = self._flush()
        self._playback_samples += len(playback_audio)
        playback_audio = np.concatenate([self._held_playback, playback_audio])
        if not self._playback_samples:
            raise InvalidInput("the voice made no audio of this text", "Send words in a language that the voice speaks")
        missing = math.floor(self.frames * SPEECH_RATE_HZ / self._clock.fps) - self._model_samples
        model_audio = np.concatenate([self._held_model, model_audio])[:missing]
        return self._faded_out(playback_audio), np.pad(model_audio, (0, missing - len(model_audio)))

    @property
    def frames(self) -> int:
        """Smallest number of frames that holds the audio, counted from `first_frame`."""
        end = self._clock.samples_at(self._first, CLIP_RATE_HZ) + self._playback_samples
        last = self._clock.frames_for(end, CLIP_RATE_HZ)
        fits = self._clock.samples_at(last - 1, CLIP_RATE_HZ) >= end  # the clock rounds to whole samples
        return max(1, last - fits - self._first)

    def _faded_out(self, playback_audio: Samples) -> Samples:
        """Fades the end in place when silence follows in the last frame."""
        start = self._clock.samples_at(self._first, CLIP_RATE_HZ)
        if self._clock.samples_at(self._first + self.frames, CLIP_RATE_HZ) - start > self._playback_samples:
            fade = np.linspace(1, 0, min(_FADE_SAMPLES, len(playback_audio)), dtype=np.float32)
            playback_audio[-_FADE_SAMPLES:] *= fade
        return playback_audio

    def _flush(self) -> tuple[Samples, Samples]:
        if self._resamplers is None:
            return _NOTHING
        return self._resamplers[0].flush(), self._resamplers[1].flush()

    def _release(self, playback_audio: Samples, model_audio: Samples) -> tuple[Samples, Samples]:
        """Counts the new samples and holds back the last ones for `finish`."""
        self._playback_samples += len(playback_audio)
        playback_audio, self._held_playback = _split_tail(
            np.concatenate([self._held_playback, playback_audio]), _FADE_SAMPLES
        )
        model_audio, self._held_model = _split_tail(np.concatenate([self._held_model, model_audio]), _HELD_SAMPLES)
        self._model_samples += len(model_audio)
        return playback_audio, model_audio


_NOTHING: tuple[Samples, Samples] = (np.zeros(0, np.float32), np.zeros(0, np.float32))


def _split_tail(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """Returns (all but the last `count` samples, the last `count` samples)."""
    cut = max(0, len(samples) - count)
    return samples[:cut], samples[cut:]
