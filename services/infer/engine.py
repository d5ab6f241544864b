"""Engine of the infer service: opens streams, loads avatars, reports the capacity.

event loop     Engine, RenderStream, Admission
render thread  RenderLoop: encodes audio, starts batches; owns the renderers and the AvatarCache
blend thread   BatchDelivery: waits for faces, pastes and delivers them
shared         WorkQueue, behind one lock
"""

from __future__ import annotations

from collections.abc import Mapping

from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.errors import InvalidInput, NotReady
from warmtalk.core.pipeline import RenderModel, WarmAvatar
from warmtalk.services.infer.admission import Admission, ThroughputMeter
from warmtalk.services.infer.avatar_cache import AvatarCache
from warmtalk.services.infer.delivery import BatchDelivery
from warmtalk.services.infer.render_loop import RenderLoop
from warmtalk.services.infer.stream import RenderStream, StreamConfig
from warmtalk.services.infer.work_queue import WorkQueue


class Engine:
    """Renders many utterances on one render thread. Event loop only."""

    def __init__(self, models: Mapping[str, RenderModel], avatars: AvatarCache, *, max_streams: int) -> None:
        self.models = dict(models)
        self.avatars = avatars
        self._admission = Admission(self.models, max_streams)
        self._meter = ThroughputMeter()
        self._queue = WorkQueue(self.models)
        self._delivery = BatchDelivery(self._queue, self._meter)
        self._loop = RenderLoop(self.models, self._queue, self._delivery, avatars.prepare_next_row)

    async def open(self, config: StreamConfig) -> RenderStream:
        """Opens a stream and loads its avatar.

        Raises Busy when all places are taken or one more stream would slow down the others, and the errors of `warm`.
        """
        with self._admission.reserve(self._queue.open_streams):
            name, avatar = await self.warm(config.avatar_id, config.renderer)
            encoder_stream = self.models[name].encoder.start_stream(config.clock)
            buffer = UtteranceBuffer(encoder_stream, config.start_index, config.credit)
            stream = RenderStream(self._queue, avatar, name, buffer)
            self._admission.check_speed(name, self._queue.streams_of(name), config.clock.fps)
            self._queue.add(stream, config)
            return stream

    async def warm(self, avatar_id: str, renderer: str = "") -> tuple[str, WarmAvatar]:
        """Returns (renderer name, avatar). Loads the avatar on the render thread if it is not loaded.

        Raises NotFound, NotReady or Damaged; InvalidInput for a renderer that this server does not have.
        """
        if renderer and renderer not in self.models:
            raise InvalidInput(
                f"this server has no renderer {renderer!r}", f"Use one of: {', '.join(self.models)}", field="renderer"
            )
        return await self._loop.call(lambda: self._load(avatar_id, renderer))

    @property
    def open_streams(self) -> int:
        """Number of open streams."""
        return self._queue.open_streams

    @property
    def capacity(self) -> int:
        """Largest number of streams at 25 fps, with the fastest renderer of the server."""
        return self._admission.capacity

    @property
    def faces_per_second(self) -> float:
        """Faces per second, the median over the latest batches; 0 before the first batch."""
        return self._meter.faces_per_second

    async def close(self) -> None:
        """Stops the render thread, then the blend thread. No stream may be in use."""
        await self._loop.close()
        await self._delivery.close()

    def _load(self, avatar_id: str, renderer: str) -> tuple[str, WarmAvatar]:
        """Runs on the render thread."""
        info = self.avatars.info(avatar_id)
        usable = [name for name in self.models if name in info.renderers]
        name = renderer or (usable[0] if usable else "")
        if name not in info.renderers:
            raise NotReady(
                f"avatar {avatar_id!r} is not prepared for {renderer or 'any renderer of this server'}"
                f" (prepared for: {', '.join(info.renderers)})",
                "Build the avatar again for that renderer: warmtalk avatar create --replace",
            )
        return name, self.avatars.get(avatar_id, name, self.models[name])
