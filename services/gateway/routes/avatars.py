"""/v1/avatars: upload with progress, list, delete; /v1/status for clients that poll."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.convert import frame_rate_message
from warmtalk.services.gateway import event_stream
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import READ_TIMEOUT_S, Backend, translated_errors
from warmtalk.services.gateway.problems import Forbidden
from warmtalk.services.gateway.route_policy import FORM_OVERHEAD_BYTES, Access, PolicyRouter
from warmtalk.services.gateway.schemas import AvatarList, AvatarView, JobView
from warmtalk.services.gateway.view_builder import avatar_view, job_view
from warmtalk.store import checked_id
from warmtalk.v1 import prep_pb2

_CHUNK_BYTES = 1 << 20
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
    """Routes of avatars; state lives in the prep service."""

    def __init__(self, backend: Backend, config: Config) -> None:
        self._backend = backend
        self._config = config
        self.router = PolicyRouter("avatars")
        add, avatar_path = self.router.add, "/v1/avatars/{avatar_id}"
        upload_bytes = (config.prep.max_upload_mb << 20) + FORM_OVERHEAD_BYTES
        add("GET", "/v1/avatars", self.list_avatars, Access.PAGE, name="all")
        add(
            "POST",
            "/v1/avatars",
            self.create,
            Access.PAGE,
            max_body_bytes=upload_bytes,
            status_code=202,
            openapi_extra=_BODY,
        )
        add("GET", avatar_path, self.get, Access.PAGE)
        add("DELETE", avatar_path, self.delete, Access.KEY, status_code=204)
        add("GET", f"{avatar_path}/events", self.events, Access.PAGE, response_class=Response)
        add("GET", "/v1/status/{job_id}", self.status, Access.PAGE)

    async def list_avatars(self) -> AvatarList:
        """Lists all avatars by id, including failed builds and builds under way."""
        return AvatarList(avatars=[avatar_view(avatar) async for avatar in self._backend.list_avatars()])

    async def create(
        self,
        request: Request,
        caller: Annotated[Caller, Depends(caller_of)],
        avatar_id: Annotated[str, Query(description="Default: derived from the file name.")] = "",
        file_name: Annotated[str, Query(description="Name to show, for a body that is the file itself.")] = "upload",
        replace: bool = False,
    ) -> JobView:
        """Makes an avatar from a video or a photo, sent as the form field `file` or as the body itself.

        Answers when the upload is complete; follow the build at /v1/status/{job_id} or /v1/avatars/{avatar_id}/events.
        """
        if replace and caller.token is not None:
            raise Forbidden("a page's token cannot replace an avatar", "Choose another name")
        if avatar_id:
            checked_id(avatar_id, "avatar_id")
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_files=1, max_fields=4) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise InvalidInput("the form has no file", "Send the file as the field `file`", field="file")
                file_name = file.filename or file_name
                upload_id = await self._upload(_file_chunks(file), file_name)
        else:
            upload_id = await self._upload(request.stream(), file_name)
        return job_view(await self._build(avatar_id or avatar_id_for(file_name), upload_id, replace=replace))

    async def get(self, avatar_id: str) -> AvatarView:
        """Returns one avatar."""
        return avatar_view(await self._get_avatar(avatar_id))

    async def delete(self, avatar_id: str) -> None:
        """Removes an avatar, or stops its build."""
        with translated_errors("prep"):
            request = prep_pb2.DeleteAvatarRequest(avatar_id=avatar_id)
            await self._backend.prep.DeleteAvatar(request, timeout=READ_TIMEOUT_S)

    async def status(self, job_id: str) -> JobView:
        """Returns the state of a build."""
        return job_view(await self._get_avatar(job_id))

    async def events(self, request: Request, avatar_id: str) -> Response:
        """Streams the state of the build now and at each change, until the build is completed or failed.

        The format is server-sent events, or NDJSON with `Accept: application/x-ndjson`.
        """
        media_type = event_stream.accepted_type(request) or event_stream.SSE
        return await event_stream.event_response(media_type, self._watch(avatar_id))

    async def _watch(self, avatar_id: str) -> AsyncIterator[dict[str, Any]]:
        call = self._backend.prep.WatchAvatar(prep_pb2.WatchAvatarRequest(avatar_id=avatar_id))
        try:
            with translated_errors("prep"):
                async for response in call:
                    yield {"event": "progress", **job_view(response.avatar).model_dump()}
        finally:
            call.cancel()

    async def _get_avatar(self, avatar_id: str) -> prep_pb2.Avatar:
        with translated_errors("prep"):
            request = prep_pb2.GetAvatarRequest(avatar_id=avatar_id)
            return (await self._backend.prep.GetAvatar(request, timeout=READ_TIMEOUT_S)).avatar

    async def _upload(self, chunks: AsyncIterator[bytes], file_name: str) -> str:
        """Forwards the file while the upload arrives and returns the upload id. A disconnect leaves no file."""
        call = self._backend.prep.UploadSource()
        try:
            with translated_errors("prep"):
                await call.write(_upload_header(file_name))
                async for chunk in chunks:
                    for offset in range(0, len(chunk), _CHUNK_BYTES):
                        await call.write(prep_pb2.UploadSourceRequest(data=chunk[offset : offset + _CHUNK_BYTES]))
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
        with translated_errors("prep"):
            return (await self._backend.prep.CreateAvatar(request, timeout=READ_TIMEOUT_S)).avatar


def avatar_id_for(file_name: str) -> str:
    """Returns an avatar id derived from a file name: "Anna B.mp4" becomes anna-b."""
    stem = file_name.rpartition(".")[0] or file_name
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return slug[:63] or "avatar"


def _upload_header(file_name: str) -> prep_pb2.UploadSourceRequest:
    return prep_pb2.UploadSourceRequest(header=prep_pb2.UploadHeader(file_name=file_name[:255]))


async def _file_chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK_BYTES):
        yield chunk
