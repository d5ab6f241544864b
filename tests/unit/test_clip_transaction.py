"""Tests of the life of a clip: committed, discarded or lost, and never half there."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.media import numbered_frame, tone
from warmtalk.core.errors import NotReady, StorageFull
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.services.session.clip_transaction import ClipTransaction
from warmtalk.services.session.session_files import SessionFiles

ENCODER = X264Settings("ultrafast", 23)
FRAMES = 5


@pytest.fixture
def session(tmp_path: Path) -> SessionFiles:
    return SessionFiles.create(tmp_path / "s1", "ann", "25", ENCODER)


def transaction(session: SessionFiles, size: tuple[int, int] = (64, 48)) -> ClipTransaction:
    return ClipTransaction(session, "some words", size, ENCODER)


def write_frames(writer: ClipWriter) -> None:
    for number in range(FRAMES):
        writer.write_bgr(numbered_frame(number))
    writer.write_audio(tone(1920 * FRAMES))


def file_names(session: SessionFiles) -> set[str]:
    return {str(path.relative_to(session.path)) for path in session.path.rglob("*") if path.is_file()}


async def test_committed_clip_is_part_of_the_conversation(session: SessionFiles) -> None:
    async with transaction(session) as clip:
        await clip.submit(write_frames, await clip.writer())
        assert session.clip_in_progress
        committed = await clip.commit(FRAMES - 1, "other words", following=77)
    assert (committed.frames, committed.text) == (FRAMES - 1, "other words")
    assert session.record.conversation.clips == (committed,)
    assert session.record.conversation.next_index == 77
    assert not session.clip_in_progress
    assert file_names(session) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


async def test_clip_without_commit_is_discarded(session: SessionFiles) -> None:
    before = session.record
    async with transaction(session) as clip:
        await clip.submit(write_frames, await clip.writer())
    assert (session.record.conversation.clips, session.record.conversation.lost) == ((), ())
    assert session.record.in_progress == before.in_progress
    assert file_names(session) == {"session.json"}


@pytest.mark.parametrize(
    ("error", "lost"),
    [(StorageFull("the volume is full", "Make room"), ["the volume is full"]), (ValueError("any other error"), [])],
)
async def test_full_volume_is_recorded_as_a_loss(session: SessionFiles, error: Exception, lost: list[str]) -> None:
    with pytest.raises(type(error)):
        async with transaction(session) as clip:
            await clip.writer()
            raise error
    records = session.record.conversation.lost
    assert [(one.text, one.reason) for one in records] == [("some words", reason) for reason in lost]
    assert file_names(session) == {"session.json"}


async def test_clip_that_cannot_open(session: SessionFiles) -> None:
    async with transaction(session) as clip:
        await clip.submit(write_frames, await clip.writer())
        await clip.commit(FRAMES)
    with pytest.raises(NotReady, match="the conversation is 64 x 48"):
        async with transaction(session, (128, 96)) as clip:
            await clip.writer()
    assert not session.clip_in_progress
    assert len(session.record.conversation.clips) == 1


async def test_leaving_at_once_waits_for_the_clip_to_open(session: SessionFiles) -> None:
    async with transaction(session):
        pass
    assert not session.clip_in_progress
    assert file_names(session) == {"session.json"}


async def test_cancelled_while_writing(session: SessionFiles) -> None:
    """A write in the queue of the clip's thread runs before the files are removed."""
    gate, writing = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_write(writer: ClipWriter) -> None:
        loop.call_soon_threadsafe(writing.set)
        gate.wait(10)
        write_frames(writer)

    async def make() -> None:
        async with transaction(session) as clip:
            await clip.submit(slow_write, await clip.writer())

    task = asyncio.create_task(make())
    await writing.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done(), "the thread is still busy"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.clip_in_progress
    assert file_names(session) == {"session.json"}


async def test_cancelled_while_committing(session: SessionFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is either committed or discarded, with the files that belong to the outcome."""
    finish = ClipWriter.finish
    finishing = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_finish(writer: ClipWriter, max_frames: int | None = None) -> object:
        loop.call_soon_threadsafe(finishing.set)
        return finish(writer, max_frames)

    monkeypatch.setattr(ClipWriter, "finish", slow_finish)

    async def make() -> None:
        async with transaction(session) as clip:
            await clip.submit(write_frames, await clip.writer())
            await clip.commit(FRAMES)

    task = asyncio.create_task(make())
    await finishing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.clip_in_progress
    assert not session.record.conversation.clips
    assert file_names(session) == {"session.json"}
