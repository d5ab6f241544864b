"""/v1/avatars: upload with progress, list, delete; /v1/status for pollers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.convert import frame_rate_message
from warmtalk.services.gateway import event_stream
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import SHORT_S, Backend, our_errors
from warmtalk.services.gateway.problems import Forbidden
from warmtalk.services.gateway.schemas import AvatarList, AvatarView, JobView, avatar_view, job_view
from warmtalk.store import checked_id
from warmtalk.v1 import prep_pb2

_PIECE_BYTES = 1 << 20
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "mp4, mov, webm, mkv, avi, mpg, jpg, png or webp",
                        }
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class AvatarRoutes:
    def __init__(self, backend: Backend, config: Config) -> None:
        self._backend = backend
        self._config = config
        self.router = APIRouter(tags=["avatars"])
        add = self.router.add_api_route
        add("/v1/avatars", self.all, methods=["GET"])
        add("/v1/avatars", self.create, methods=["POST"], status_code=202, openapi_extra=_BODY)
        add("/v1/avatars/{avatar_id}", self.get, methods=["GET"])
        add("/v1/avatars/{avatar_id}", self.delete, methods=["DELETE"], status_code=204)
        add("/v1/avatars/{avatar_id}/events", self.events, methods=["GET"], response_class=Response)
        add("/v1/status/{job_id}", self.status, methods=["GET"])

    async def all(self) -> AvatarList:
        """All avatars by id, those being built and failed ones too."""
        return AvatarList(avatars=[avatar_view(one) async for one in self._backend.avatars()])

    async def create(
        self,
        request: Request,
        caller: Annotated[Caller, Depends(caller_of)],
        avatar_id: Annotated[str, Query(description="Default: made from the file's name.")] = "",
        file_name: Annotated[str, Query(description="For people; of a body that is the file itself.")] = "upload",
        replace: bool = False,
    ) -> JobView:
        """Makes an avatar of a video or a photo, sent as a form's `file` or as the body itself. Answers when the
        upload is complete; follow the build at /v1/status/{job_id} or /v1/avatars/{avatar_id}/events.
        """
        if replace and caller.token is not None:
            raise Forbidden("a page's token cannot replace an avatar", "Choose another name")
        if avatar_id:
            checked_id(avatar_id, "avatar_id")
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_files=1, max_fields=4) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise InvalidInput("the form has no file", "Send it as `file`", field="file")
                file_name = file.filename or file_name
                upload_id = await self._upload(_pieces(file), file_name)
        else:
            upload_id = await self._upload(request.stream(), file_name)
        return job_view(await self._build(avatar_id or id_for(file_name), upload_id, replace=replace))

    async def get(self, avatar_id: str) -> AvatarView:
        """One avatar."""
        return avatar_view(await self._find(avatar_id))

    async def delete(self, avatar_id: str) -> None:
        """Removes an avatar, or stops its build."""
        with our_errors("prep"):
            await self._backend.prep.DeleteAvatar(prep_pb2.DeleteAvatarRequest(avatar_id=avatar_id), timeout=SHORT_S)

    async def status(self, job_id: str) -> JobView:
        """Where a build stands."""
        return job_view(await self._find(job_id))

    async def events(self, request: Request, avatar_id: str) -> Response:
        """The build's state now and at each change, until it is completed or failed: server-sent events, or lines
        of JSON with `Accept: application/x-ndjson`.
        """
        return await event_stream.respond(event_stream.wanted(request) or "text/event-stream", self._watch(avatar_id))

    async def _watch(self, avatar_id: str) -> AsyncIterator[dict[str, Any]]:
        call = self._backend.prep.WatchAvatar(prep_pb2.WatchAvatarRequest(avatar_id=avatar_id))
        try:
            with our_errors("prep"):
                async for answer in call:
                    yield {"event": "progress", **job_view(answer.avatar).model_dump()}
        finally:
            call.cancel()

    async def _find(self, avatar_id: str) -> prep_pb2.Avatar:
        with our_errors("prep"):
            request = prep_pb2.GetAvatarRequest(avatar_id=avatar_id)
            return (await self._backend.prep.GetAvatar(request, timeout=SHORT_S)).avatar

    async def _upload(self, pieces: AsyncIterator[bytes], file_name: str) -> str:
        """Passes the file on while it arrives; a client that goes away leaves nothing."""
        call = self._backend.prep.UploadSource()
        try:
            with our_errors("prep"):
                await call.write(_header(file_name))
                async for piece in pieces:
                    for place in range(0, len(piece), _PIECE_BYTES):
                        await call.write(prep_pb2.UploadSourceRequest(data=piece[place : place + _PIECE_BYTES]))
                await call.done_writing()
                return (await call).upload_id
        finally:
            call.cancel()

    async def _build(self, avatar_id: str, upload_id: str, *, replace: bool) -> prep_pb2.Avatar:
        params = prep_pb2.AvatarParams(
            bbox_shift=self._config.bbox_shift,
            extra_margin=self._config.prep.extra_margin,
            still_seconds=self._config.prep.still_seconds,
            frame_rate=frame_rate_message(self._config.fps),
        )
        request = prep_pb2.CreateAvatarRequest(avatar_id=avatar_id, upload_id=upload_id, params=params, replace=replace)
        with our_errors("prep"):
            return (await self._backend.prep.CreateAvatar(request, timeout=SHORT_S)).avatar


def id_for(file_name: str) -> str:
    """An avatar_id out of a file's name: "Anna B.mp4" is anna-b."""
    stem = file_name.rpartition(".")[0] or file_name
    words = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return words[:63] or "avatar"


def _header(file_name: str) -> prep_pb2.UploadSourceRequest:
    return prep_pb2.UploadSourceRequest(header=prep_pb2.UploadHeader(file_name=file_name[:255]))


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while data := await file.read(_PIECE_BYTES):
        yield data
