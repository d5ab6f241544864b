"""What the pipeline needs from models and voices. Adapters live in models/ and voices/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import SPEECH_RATE_HZ, Box, Features, FrameClock, Image, Mask, Points, Samples


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFace:
    """One face of a picture."""

    score: float
    """0 to 1."""
    points: Points
    """[68, 2] iBUG points in picture pixels; may lie outside the picture."""


class FaceDetector(Protocol):
    """Where the faces of a picture are, and where each has its 68 points: the face box follows from them."""

    name: str
    """As in the configuration and in avatar.json."""

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """Faces of a picture, best first; [] when there is none. Not thread-safe.

        `hints` are where the mesh finder saw faces: a detector may look closer there, or not at all.
        """
        ...


class FaceParser(Protocol):
    """Which part of a row's picture the drawn face may take."""

    name: str
    """As in the configuration and in avatar.json."""

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """[S, S] blend mask over the crop box of a usable row. Not thread-safe."""
        ...


class PreparedAvatar(Protocol):
    """What a renderer keeps of one avatar between utterances."""

    @property
    def nbytes(self) -> int:
        """Memory held now."""
        ...


Prepared = TypeVar("Prepared", bound=PreparedAvatar)


class SpeechStream(Protocol):
    """One utterance, heard piece by piece. Not thread-safe; owns all state of the utterance."""

    def accept(self, samples: Samples) -> Features:
        """Takes the next 16 kHz samples, any number; returns the frames whose window is now complete."""
        ...

    def finish(self) -> Features:
        """The rest: after it, exactly clock.frames_for(all samples) frames were returned. Call once."""
        ...


@runtime_checkable
class LookaheadStream(Protocol):
    """A SpeechStream whose rows are better the more is known of what comes after them."""

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        """The sound that follows what was accepted so far, as much as there is; it is still to be accepted.

        At most AHEAD_SAMPLES; `last`: nothing comes after it. May be called before every `accept`, or never.
        """
        ...

    def rest(self, frame: int) -> Features:
        """The row that pure silence would have at this frame."""
        ...


AHEAD_SAMPLES = 30 * SPEECH_RATE_HZ
"""As far as any encoder looks."""


class SpeechEncoder(Protocol):
    """Sound to one feature row per video frame. The same sound, as far ahead as it is known, gives the same rows."""

    def start_stream(self, clock: FrameClock) -> SpeechStream: ...


class FaceRenderer(Protocol[Prepared]):
    """Feature rows and source rows to faces. `prepare` and `render` run on the one thread that owns the device."""

    name: str

    def prepare(self, bundle: Bundle) -> Prepared:
        """What rendering this avatar needs, kept warm between utterances. May read the bundle's files."""
        ...

    def render(self, avatar: Prepared, rows: Sequence[int], features: Features) -> list[Image]:
        """One [256, 256, 3] face per row, to be stretched over the row's face box. All rows are usable."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FaceJob(Generic[Prepared]):
    """One face to draw."""

    avatar: Prepared
    row: int
    """A usable one."""
    features: Features
    """Of this frame alone: without the axis of frames."""


@runtime_checkable
class BatchRenderer(Protocol):
    """A FaceRenderer that is faster with faces of many avatars at once. Same thread."""

    max_batch: int
    faces_per_second: float
    """Measured at the start with full batches; 0: not measured."""

    def begin_many(self, jobs: Sequence[FaceJob[Any]]) -> Callable[[], list[Image | WarmtalkError]]:
        """Starts to draw; raises what concerns all jobs.

        What it returns is called once, on any thread: it waits, and gives a face, or what went wrong with this one, for
        each job in order.
        """
        ...


@runtime_checkable
class RowRenderer(Protocol):
    """A FaceRenderer that keeps something for each source row, which can be made before it is needed. Same thread."""

    rows_kept: int

    def prepare_row(self, avatar: Any, row: int) -> None:
        """`row` is a usable one. May take as long as drawing ten faces."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of synthesised speech at the voice's own rate."""

    samples: Samples
    rate_hz: int


class Voice(Protocol):
    """Text to speech."""

    async def warm_up(self) -> None:
        """Prepares the voice, so that the first sentence does not wait. Raises Unreachable or NotReady."""
        ...

    def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """Yields the sentence's sound in order, in one or more pieces. Raises Unreachable or NotReady."""
        ...

    async def close(self) -> None: ...
