"""gRPC servicer of PrepService: translates messages to calls on uploads and jobs.

File operations run in threads, never in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from warmtalk.avatar import from_config
from warmtalk.avatar.report.footage_report import CONTACT_SHEET_FILE, REPORT_FILE
from warmtalk.config import Config
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.core.errors import Damaged, InvalidInput, NotFound, WarmtalkError
from warmtalk.services.prep import messages
from warmtalk.services.prep.build_state import Build, BuildState
from warmtalk.services.prep.jobs import BuildJobs
from warmtalk.services.prep.uploads import IncomingUpload, UploadStore
from warmtalk.store import AvatarStore, checked_id
from warmtalk.v1 import prep_pb2, prep_pb2_grpc

WATCH_INTERVAL_S = 0.1
"""Polling interval of a watched build."""
_CHUNK_BYTES = 1 << 20
_PAGE_SIZE, _MAX_PAGE_SIZE = 100, 1000
_MAX_REQUEST_ID_CHARS = 64
_Context = grpc.aio.ServicerContext[Any, Any]


class PrepServicer(prep_pb2_grpc.PrepServiceServicer):
    """Servicer of PrepService; one per server. Each method implements the RPC of that name in prep.proto."""

    def __init__(self, config: Config, store: AvatarStore, uploads: UploadStore, jobs: BuildJobs) -> None:
        self._config = config
        self._store = store
        self._uploads = uploads
        self._jobs = jobs

    async def UploadSource(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[prep_pb2.UploadSourceRequest], context: _Context
    ) -> prep_pb2.UploadSourceResponse:
        await asyncio.to_thread(self._uploads.remove_expired, self._jobs.sources())
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("message") != "header":
            raise InvalidInput("an upload starts with its header", "Send `header` first, then `data`", field="header")
        try:
            with self._uploads.start(first.header.file_name, first.header.size_bytes) as incoming:
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
        if len(request.request_id) > _MAX_REQUEST_ID_CHARS:
            raise InvalidInput("request_id is too long", f"Use at most {_MAX_REQUEST_ID_CHARS}", field="request_id")
        # request_id is not stored: a repeated request has the same source and parameters and joins the same build.
        params = messages.build_params(request.params, self._config)
        upload = self._uploads.find(request.upload_id)
        build_request = from_config.build_request(
            avatar_id, upload.path, upload.file_name, upload.sha256, params, self._config
        )
        result = await asyncio.to_thread(self._jobs.submit, build_request, replace_other=request.replace)
        return prep_pb2.CreateAvatarResponse(avatar=self._avatar_message(result))

    async def WatchAvatar(  # noqa: N802
        self, request: prep_pb2.WatchAvatarRequest, context: _Context
    ) -> AsyncIterator[prep_pb2.WatchAvatarResponse]:
        previous = None
        while True:
            current = self._jobs.find(request.avatar_id)
            if current != previous:
                yield prep_pb2.WatchAvatarResponse(avatar=await asyncio.to_thread(self._avatar_message, current))
            if not isinstance(current, Build) or current.state is not BuildState.CREATING:
                return
            previous = current
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def GetAvatar(  # noqa: N802
        self, request: prep_pb2.GetAvatarRequest, context: _Context
    ) -> prep_pb2.GetAvatarResponse:
        avatar = await asyncio.to_thread(self._jobs.find, request.avatar_id)
        return prep_pb2.GetAvatarResponse(avatar=await asyncio.to_thread(self._avatar_message, avatar))

    async def ListAvatars(  # noqa: N802
        self, request: prep_pb2.ListAvatarsRequest, context: _Context
    ) -> prep_pb2.ListAvatarsResponse:
        size = request.page_size or _PAGE_SIZE
        if not 1 <= size <= _MAX_PAGE_SIZE:
            raise InvalidInput(f"page_size is {size}", f"Use 1 to {_MAX_PAGE_SIZE}", field="page_size")
        avatars, next_token = await asyncio.to_thread(self._page, request.page_token, size)
        return prep_pb2.ListAvatarsResponse(avatars=avatars, next_page_token=next_token)

    async def GetReport(  # noqa: N802
        self, request: prep_pb2.GetReportRequest, context: _Context
    ) -> AsyncIterator[prep_pb2.GetReportResponse]:
        path = self._store.find(request.avatar_id)
        name = CONTACT_SHEET_FILE if request.file == prep_pb2.GetReportRequest.FILE_CONTACT_SHEET else REPORT_FILE
        data = await asyncio.to_thread(_read, path / name)
        for start in range(0, len(data), _CHUNK_BYTES):
            yield prep_pb2.GetReportResponse(data=data[start : start + _CHUNK_BYTES])

    async def DeleteAvatar(  # noqa: N802
        self, request: prep_pb2.DeleteAvatarRequest, context: _Context
    ) -> prep_pb2.DeleteAvatarResponse:
        await asyncio.to_thread(self._jobs.delete, request.avatar_id)
        return prep_pb2.DeleteAvatarResponse()

    def _page(self, after: str, size: int) -> tuple[list[prep_pb2.Avatar], str]:
        ids = [one for one in self._jobs.ids() if one > after]
        page = ids[:size]
        return [found for one in page if (found := self._list_entry(one))], page[-1] if len(ids) > size else ""

    def _list_entry(self, avatar_id: str) -> prep_pb2.Avatar | None:
        """Returns None for an avatar that was deleted meanwhile; lists a damaged avatar as failed, with the reason."""
        try:
            return self._avatar_message(self._jobs.find(avatar_id))
        except NotFound:
            return None
        except Damaged as error:
            return prep_pb2.Avatar(avatar_id=avatar_id, state=prep_pb2.Avatar.STATE_FAILED, error=str(error))

    def _avatar_message(self, avatar: Build | AvatarInfo) -> prep_pb2.Avatar:
        if isinstance(avatar, Build):
            return messages.build_message(avatar)
        return messages.bundle_message(avatar, self._store.path(avatar.avatar_id), self._config)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        name = path.parent.name
        raise NotFound(
            f"avatar {name!r} has no {path.name}",
            "An older version or another program built the avatar; build the avatar again with replace",
        ) from error


async def _receive(incoming: IncomingUpload, request: prep_pb2.UploadSourceRequest) -> None:
    if request.WhichOneof("message") != "data":
        raise InvalidInput("an upload has one header, at its start", "Send only `data` after it", field="header")
    if len(request.data) > _CHUNK_BYTES:
        raise InvalidInput(f"a chunk has {len(request.data)} bytes", f"Send at most {_CHUNK_BYTES}", field="data")
    await asyncio.to_thread(incoming.write, request.data)


async def _drain(requests: AsyncIterator[prep_pb2.UploadSourceRequest], max_bytes: int) -> None:
    """Reads the rest of a rejected upload, up to `max_bytes`.

    A grpc.aio client that is still writing when the call ends raises its own error instead of the status.
    """
    async for request in requests:
        max_bytes -= len(request.data)
        if max_bytes < 0:
            return
