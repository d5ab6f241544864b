"""PrepService: messages to calls on uploads and jobs, and back. File work runs in threads, never in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from warmtalk.avatar import from_config
from warmtalk.avatar.report.footage_report import REPORT, SHEET
from warmtalk.config import Config
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.core.errors import Damaged, InvalidInput, NotFound, WarmtalkError
from warmtalk.services.prep import messages
from warmtalk.services.prep.jobs import Build, BuildJobs, BuildState
from warmtalk.services.prep.uploads import Incoming, UploadStore
from warmtalk.store import AvatarStore, checked_id
from warmtalk.v1 import prep_pb2, prep_pb2_grpc

WATCH_S = 0.1
"""How often a watched build is looked at."""
_PIECE_BYTES = 1 << 20
_PAGE, _PAGE_MOST = 100, 1000
_REQUEST_ID_CHARS = 64
_Context = grpc.aio.ServicerContext[Any, Any]


class PrepServicer(prep_pb2_grpc.PrepServiceServicer):
    """One per server."""

    def __init__(self, config: Config, store: AvatarStore, uploads: UploadStore, jobs: BuildJobs) -> None:
        self._config = config
        self._store = store
        self._uploads = uploads
        self._jobs = jobs

    async def UploadSource(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[prep_pb2.UploadSourceRequest], context: _Context
    ) -> prep_pb2.UploadSourceResponse:
        await asyncio.to_thread(self._uploads.sweep, self._jobs.sources())
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("message") != "header":
            raise InvalidInput("an upload starts with its header", "Send `header` first, then `data`", field="header")
        try:
            with self._uploads.begin(first.header.file_name, first.header.size_bytes) as incoming:
                async for request in request_iterator:
                    await _receive(incoming, request)
                upload = await asyncio.to_thread(incoming.finish)
        except WarmtalkError:
            await _drain(request_iterator, self._config.prep.max_upload_mb << 20)
            raise
        return prep_pb2.UploadSourceResponse(
            upload_id=upload.upload_id, sha256=upload.sha256, size_bytes=upload.size_bytes
        )

    async def CreateAvatar(  # noqa: N802
        self, request: prep_pb2.CreateAvatarRequest, context: _Context
    ) -> prep_pb2.CreateAvatarResponse:
        avatar_id = checked_id(request.avatar_id, "avatar_id")
        if len(request.request_id) > _REQUEST_ID_CHARS:
            raise InvalidInput("request_id is too long", f"Use at most {_REQUEST_ID_CHARS}", field="request_id")
        # Asked twice it is done once in any case: the same source with the same parameters is the same build.
        params = messages.params(request.params, self._config)
        upload = self._uploads.find(request.upload_id)
        order = from_config.order(avatar_id, upload.path, upload.file_name, upload.sha256, params, self._config)
        found = await asyncio.to_thread(self._jobs.submit, order, replace_other=request.replace)
        return prep_pb2.CreateAvatarResponse(avatar=self._avatar(found))

    async def WatchAvatar(  # noqa: N802
        self, request: prep_pb2.WatchAvatarRequest, context: _Context
    ) -> AsyncIterator[prep_pb2.WatchAvatarResponse]:
        before = None
        while True:
            now = self._jobs.find(request.avatar_id)
            if now != before:
                yield prep_pb2.WatchAvatarResponse(avatar=await asyncio.to_thread(self._avatar, now))
            if not isinstance(now, Build) or now.state is not BuildState.CREATING:
                return
            before = now
            await asyncio.sleep(WATCH_S)

    async def GetAvatar(  # noqa: N802
        self, request: prep_pb2.GetAvatarRequest, context: _Context
    ) -> prep_pb2.GetAvatarResponse:
        found = await asyncio.to_thread(self._jobs.find, request.avatar_id)
        return prep_pb2.GetAvatarResponse(avatar=await asyncio.to_thread(self._avatar, found))

    async def ListAvatars(  # noqa: N802
        self, request: prep_pb2.ListAvatarsRequest, context: _Context
    ) -> prep_pb2.ListAvatarsResponse:
        size = request.page_size or _PAGE
        if not 1 <= size <= _PAGE_MOST:
            raise InvalidInput(f"page_size is {size}", f"Use 1 to {_PAGE_MOST}", field="page_size")
        avatars, following = await asyncio.to_thread(self._page, request.page_token, size)
        return prep_pb2.ListAvatarsResponse(avatars=avatars, next_page_token=following)

    async def GetReport(  # noqa: N802
        self, request: prep_pb2.GetReportRequest, context: _Context
    ) -> AsyncIterator[prep_pb2.GetReportResponse]:
        path = self._store.find(request.avatar_id)
        name = SHEET if request.file == prep_pb2.GetReportRequest.FILE_CONTACT_SHEET else REPORT
        data = await asyncio.to_thread(_read, path / name)
        for start in range(0, len(data), _PIECE_BYTES):
            yield prep_pb2.GetReportResponse(data=data[start : start + _PIECE_BYTES])

    async def DeleteAvatar(  # noqa: N802
        self, request: prep_pb2.DeleteAvatarRequest, context: _Context
    ) -> prep_pb2.DeleteAvatarResponse:
        await asyncio.to_thread(self._jobs.delete, request.avatar_id)
        return prep_pb2.DeleteAvatarResponse()

    def _page(self, after: str, size: int) -> tuple[list[prep_pb2.Avatar], str]:
        ids = [one for one in self._jobs.ids() if one > after]
        page = ids[:size]
        return [found for one in page if (found := self._listed(one))], page[-1] if len(ids) > size else ""

    def _listed(self, avatar_id: str) -> prep_pb2.Avatar | None:
        """None when it was deleted meanwhile; a damaged one is listed as failed, with the reason."""
        try:
            return self._avatar(self._jobs.find(avatar_id))
        except NotFound:
            return None
        except Damaged as error:
            return prep_pb2.Avatar(avatar_id=avatar_id, state=prep_pb2.Avatar.STATE_FAILED, error=str(error))

    def _avatar(self, found: Build | AvatarInfo) -> prep_pb2.Avatar:
        if isinstance(found, Build):
            return messages.of_build(found)
        return messages.of_bundle(found, self._store.path(found.avatar_id), self._config)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        name = path.parent.name
        raise NotFound(
            f"avatar {name!r} has no {path.name}",
            "An older version or another program made it; build it again with replace",
        ) from error


async def _receive(incoming: Incoming, request: prep_pb2.UploadSourceRequest) -> None:
    if request.WhichOneof("message") != "data":
        raise InvalidInput("an upload has one header, at its start", "Send only `data` after it", field="header")
    if len(request.data) > _PIECE_BYTES:
        raise InvalidInput(f"a piece has {len(request.data)} bytes", f"Send at most {_PIECE_BYTES}", field="data")
    await asyncio.to_thread(incoming.write, request.data)


async def _drain(requests: AsyncIterator[prep_pb2.UploadSourceRequest], most_bytes: int) -> None:
    """Lets a refused sender finish, within bounds: a grpc.aio client that is still writing when the call ends sees an
    error of its own instead of the reason.
    """
    async for request in requests:
        most_bytes -= len(request.data)
        if most_bytes < 0:
            return
