"""HTTP: what a page may ask, a few lines each. Paths of files come from ids that are looked up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from holo_lite.errors import HoloError, SettingsError
from holo_lite.web.stills import shot_of_sheet
from holo_lite.web.workspace import ThereError, Workspace

STATIC = Path(__file__).parent / "static"
LARGEST = 2**20  # bytes of a request's JSON
SMALL = 1000  # bytes, not worth compressing
NEVER_OLD = {"cache-control": "no-cache"}
KEPT = {"cache-control": "private, max-age=31536000, immutable"}  # addresses that change with the file
Answer = Callable[[Request], Awaitable[Response]]


class Routes:
    """The routes of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def app(self) -> Starlette:
        """All of them."""
        asked = [
            ("/api/board", self.edit),
            ("/api/open", self.open),
            ("/api/save", self.save),
            ("/api/jobs", self.order),
            ("/api/jobs/{job}/{verb}", self.job),
            ("/api/queue", self.hold),
            ("/api/write", self.write),
            ("/api/gallery/{video}/delete", self.delete),
            ("/api/setup/doctor", self.doctor),
            ("/api/setup/fetch", self.fetch),
            ("/api/setup/fetch/cancel", self.cancel_fetch),
        ]
        looked = [
            ("/", page),
            ("/api/events", self.events),
            ("/api/files", self.files),
            ("/api/board.toml", self.toml),
            ("/uploads/{upload}", self.upload),
            ("/jobs/{job}/{name}", self.job_picture),
            ("/jobs/{job}/{name}/{shot:int}", self.job_shot),
            ("/gallery/{video}/{what}", self.video),
        ]
        return Starlette(
            routes=[
                *(Route(path, _told(endpoint), methods=["POST"]) for path, endpoint in asked),
                Route("/api/uploads", _told(self.take), methods=["POST"]),
                *(Route(path, _told(endpoint), methods=["GET"]) for path, endpoint in looked),
                Mount("/static", GZipMiddleware(Fresh(directory=STATIC), minimum_size=SMALL)),
            ]
        )

    async def events(self, _: Request) -> Response:
        """The stream of all records."""
        listener = self._workspace.listeners.open()

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for piece in listener.events(self._workspace.snapshot):
                    yield piece
            finally:
                self._workspace.listeners.leave(listener)

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def edit(self, request: Request) -> Response:
        """An operation on the draft."""
        said = await _json(request)
        return JSONResponse(await run_in_threadpool(self._workspace.edit, said))

    async def open(self, request: Request) -> Response:
        """Another storyboard as the draft."""
        said = await _json(request)
        return JSONResponse(await run_in_threadpool(self._workspace.open, said))

    async def save(self, request: Request) -> Response:
        """The draft into a file."""
        said = await _json(request)
        name = said.get("name")
        name = name if isinstance(name, str) and name else None
        overwrite = said.get("overwrite") is True
        return JSONResponse(await run_in_threadpool(self._workspace.save, name, overwrite=overwrite))

    async def order(self, request: Request) -> Response:
        """A new job."""
        said = await _json(request)
        return JSONResponse(await run_in_threadpool(self._workspace.order, said), status_code=201)

    async def job(self, request: Request) -> Response:
        """Something about a job."""
        queue, job = self._workspace.queue, request.path_params["job"]
        verbs: dict[str, Callable[[], None]] = {
            "cancel": lambda: queue.cancel(job),
            "pause": lambda: queue.cancel(job, "paused"),
            "resume": lambda: queue.resume(job),
            "first": lambda: queue.move(job, "first"),
            "up": lambda: queue.move(job, "up"),
            "down": lambda: queue.move(job, "down"),
            "remove": lambda: queue.remove(job),
        }
        verb = verbs.get(request.path_params["verb"])
        if verb is None:
            return _missing()
        await run_in_threadpool(verb)
        return JSONResponse({})

    async def write(self, request: Request) -> Response:
        """A storyboard that a language model writes, as the draft."""
        said = await _json(request)
        return JSONResponse(await run_in_threadpool(self._workspace.write, said))

    async def hold(self, request: Request) -> Response:
        """Hold the queue, or go on."""
        said = await _json(request)
        await run_in_threadpool(self._workspace.queue.hold, said.get("held") is True)
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        """A video to the trash."""
        await run_in_threadpool(self._workspace.delete, request.path_params["video"])
        return JSONResponse({})

    async def doctor(self, _: Request) -> Response:
        """A look at this machine."""
        await run_in_threadpool(self._workspace.errands.look)
        return JSONResponse({})

    async def fetch(self, request: Request) -> Response:
        """The model: offered, or fetched and converted."""
        said = await _json(request)
        await run_in_threadpool(self._workspace.errands.fetch, said)
        return JSONResponse({})

    async def cancel_fetch(self, _: Request) -> Response:
        """No more of that."""
        await run_in_threadpool(self._workspace.errands.cancel)
        return JSONResponse({})

    async def files(self, _: Request) -> Response:
        """Storyboard files of the folder."""
        found = await run_in_threadpool(self._workspace.files)
        return JSONResponse([{"id": each.id, "name": each.name} for each in found])

    async def toml(self, _: Request) -> Response:
        """The draft to download."""
        text = await run_in_threadpool(self._workspace.toml)
        return Response(
            text,
            media_type="application/toml",
            headers={"content-disposition": 'attachment; filename="storyboard.toml"', **NEVER_OLD},
        )

    async def take(self, request: Request) -> Response:
        """A picture that a person gives."""
        name = request.query_params.get("name", "picture")
        try:
            found = await self._workspace.uploads.take(name, request.stream())
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse({"id": found.id, "name": found.name, "url": f"/uploads/{found.id}"}, status_code=201)

    async def upload(self, request: Request) -> Response:
        """A picture that was given."""
        found = self._workspace.uploads.find(request.path_params["upload"])
        return _missing() if found is None else FileResponse(found.path, media_type=found.media, headers=KEPT)

    async def job_picture(self, request: Request) -> Response:
        """A preview or a sheet of a job."""
        pictures = await run_in_threadpool(self._workspace.queue.pictures, request.path_params["job"])
        path = pictures.get(request.path_params["name"])
        return _missing() if path is None else FileResponse(path, media_type="image/png", headers=NEVER_OLD)

    async def job_shot(self, request: Request) -> Response:
        """A shot of a preview."""
        pictures = await run_in_threadpool(self._workspace.queue.pictures, request.path_params["job"])
        path = pictures.get(request.path_params["name"])
        found = None if path is None else await run_in_threadpool(shot_of_sheet, path, request.path_params["shot"])
        return _missing() if found is None else Response(found, media_type="image/jpeg", headers=NEVER_OLD)

    async def video(self, request: Request) -> Response:
        """A video, in the ranges that a player asks for, or what belongs to it."""
        gallery, what = self._workspace.gallery, request.path_params["what"]
        found = gallery.get(request.path_params["video"])
        if what == "video":
            name = found.path.name if "download" in request.query_params else None
            return FileResponse(found.path, media_type="video/mp4", headers=KEPT, filename=name)
        if what == "poster":
            path = await run_in_threadpool(gallery.poster, found)
            return FileResponse(path, media_type="image/jpeg", headers=KEPT)
        if what.startswith("shot-"):
            shot = await run_in_threadpool(gallery.shot, found, what.removeprefix("shot-"))
            return _missing() if shot is None else FileResponse(shot, media_type="image/jpeg", headers=KEPT)
        if what == "sheet" and found.record["sheet"]:
            return FileResponse(found.path.with_suffix(".png"), media_type="image/png", headers=KEPT)
        return _missing()


class Fresh(StaticFiles):
    """The page's own files: asked for each time whether they changed, so that an update is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file."""
        answer = super().file_response(*args, **kwargs)
        answer.headers.update(NEVER_OLD)
        return answer


async def page(_: Request) -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8", headers=NEVER_OLD)


def _told(answer: Answer) -> Answer:
    """The same with an error that a person can mend as its one line."""

    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except ThereError as error:
            return JSONResponse({"error": str(error), "exists": True}, status_code=409)
        except HoloError as error:
            return JSONResponse({"error": str(error)}, status_code=422)

    return told


async def _json(request: Request) -> dict[str, Any]:
    """What was sent. Raises `SettingsError` for what is no object, or too large."""
    text = bytearray()
    async for piece in request.stream():
        text += piece
        if len(text) > LARGEST:
            raise SettingsError("too much was sent")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError("what was sent is not JSON") from error
    if not isinstance(found, dict):
        raise SettingsError("what was sent is no object")
    return found


def _missing() -> Response:
    return JSONResponse({"error": "there is nothing"}, status_code=404)
