"""What the pipeline needs from models and voices. Adapters live in models/ and voices/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import Features, FrameClock, Image, Samples


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


class SpeechEncoder(Protocol):
    """Sound to one feature row per video frame. The same sound gives the same rows in pieces of any size."""

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

    def render_many(self, jobs: Sequence[FaceJob[Any]]) -> list[Image | WarmtalkError]:
        """A face, or what went wrong with this one, for each job in order. Raises what concerns all of them."""
        ...


@runtime_checkable
class RowRenderer(Protocol):
    """A FaceRenderer that keeps something for each source row, which can be made before it is needed. Same thread."""

    rows_kept: int

    def prepare_row(self, avatar: Any, row: int) -> None:
        """`row` is a usable one. May take as long as drawing ten faces."""
        ...


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of synthesised speech at the voice's own rate."""

    samples: Samples
    rate_hz: int


class Voice(Protocol):
    """Text to speech."""

    def speak(self, sentence: str) -> AsyncIterator[Speech]:
        """Yields the sentence's sound in order, in one or more pieces. Raises Unreachable or NotReady."""
        ...

    async def close(self) -> None: ...
