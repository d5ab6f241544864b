"""Protocols of the pipeline: interfaces for models and voices. Adapters live in models/ and voices/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import SPEECH_RATE_HZ, Box, Features, FrameClock, Image, Mask, Points, Samples


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFace:
    """One detected face of an image."""

    score: float
    """Confidence of the detector, 0 to 1."""
    points: Points
    """[68, 2] iBUG points in pixels of the image; may lie outside the image."""


class FaceDetector(Protocol):
    """Finds the faces of an image and the 68 points of each face. The face box is derived from the points."""

    name: str
    """Name of the detector in the configuration and in avatar.json."""

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """Returns the faces of an image, best score first; [] when the image has none. Not thread-safe.

        `hints` are boxes of faces found by the mesh finder: a detector may search them more closely, or ignore them.
        """
        ...


class FaceParser(Protocol):
    """Computes which part of a source frame the generated face may replace."""

    name: str
    """Name of the parser in the configuration and in avatar.json."""

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """Returns the [S, S] blend mask over the crop box of a usable row. Not thread-safe."""
        ...


class PreparedAvatar(Protocol):
    """State of a renderer for one avatar, kept between utterances."""

    @property
    def nbytes(self) -> int:
        """Memory held now."""
        ...


Prepared = TypeVar("Prepared", bound=PreparedAvatar)


class SpeechStream(Protocol):
    """Incremental encoding of one utterance. Owns all state of the utterance. Not thread-safe."""

    def push_audio(self, samples: Samples) -> Features:
        """Consumes the next 16 kHz samples, any number; returns the rows of frames whose window is now complete."""
        ...

    def finish(self) -> Features:
        """Returns the remaining rows: clock.frames_for(all samples) in total, with those returned before. Call once."""
        ...


@runtime_checkable
class LookaheadStream(Protocol):
    """A SpeechStream with better features when the following audio is already known."""

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        """Shows the known audio after the consumed samples. `push_audio` still receives the same audio later.

        At most AHEAD_SAMPLES. `last` is True when no audio follows `samples`. A caller may call `look_ahead` before
        every `push_audio`, or never.
        """
        ...

    def silence_features(self, frame: int) -> Features:
        """Returns the feature row of pure silence at `frame`."""
        ...


AHEAD_SAMPLES = 30 * SPEECH_RATE_HZ
"""Longest lookahead of any encoder, in samples."""


class SpeechEncoder(Protocol):
    """Encodes audio to one feature row per video frame. Equal audio with equal lookahead gives equal rows."""

    def start_stream(self, clock: FrameClock) -> SpeechStream:
        """Returns a stream for one utterance with the frame rate of `clock`."""
        ...


class FaceRenderer(Protocol[Prepared]):
    """Renders faces from features and source rows. `prepare` and `render` run on the thread that owns the device."""

    def prepare(self, bundle: Bundle) -> Prepared:
        """Loads the state needed to render this avatar, kept between utterances. May read files of the bundle."""
        ...

    def render(self, avatar: Prepared, rows: Sequence[int], features: Features) -> list[Image]:
        """Returns one [256, 256, 3] face per row, to be stretched over the paste box of the row.

        Every row is usable. The blend mask of the avatar decides on the visible area: with the mesh parser, the lower
        half of the face, from about row 128 of 256 down.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FaceJob(Generic[Prepared]):
    """One face to render."""

    avatar: Prepared
    row: int
    """Source row; a usable one."""
    features: Features
    """Features of the one frame, without the frame axis."""


@runtime_checkable
class BatchRenderer(Protocol):
    """A FaceRenderer that is faster with a batch of faces, also of different avatars. Runs on the same thread."""

    max_batch: int
    """Most faces in one batch."""
    faces_per_second: float
    """Throughput measured at start-up with full batches; 0 when not measured."""

    def submit_batch(self, jobs: Sequence[FaceJob[Any]]) -> Callable[[], list[Image | WarmtalkError]]:
        """Starts rendering and returns a blocking function for the result. Raises errors concerning all jobs.

        The returned function is called once, on any thread. For each job, in order, the result holds the face or the
        error of the job.
        """
        ...


@runtime_checkable
class RowRenderer(Protocol):
    """A FaceRenderer with a cache per source row, which may be filled ahead of time. Runs on the same thread."""

    cached_rows: int
    """Most rows in the cache."""

    def prepare_row(self, avatar: Any, row: int) -> None:
        """Fills the cache for `row`, which is usable. May take as long as ten faces take to render."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A chunk of synthesised speech at the native rate of the voice."""

    samples: Samples
    rate_hz: int


class Voice(Protocol):
    """Text to speech."""

    async def warm_up(self) -> None:
        """Prepares the voice, so that the first sentence does not wait. Raises Unreachable or NotReady."""
        ...

    def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """Yields the audio of the sentence in order, in one or more chunks. Raises Unreachable or NotReady."""
        ...

    async def close(self) -> None:
        """Releases the connections or the process of the voice."""
        ...
