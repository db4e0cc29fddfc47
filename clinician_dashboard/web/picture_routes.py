"""A frame's pictures for the pages: thumbnails, and the tiles of a large frame. They never change, so a browser keeps them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import StringConstraints

from clinician_dashboard.access.web import needs, saw_case
from clinician_dashboard.record.tables import FrameRow
from clinician_dashboard.tiles.errors import NoSuchTile, PictureError
from clinician_dashboard.web.context import Context

FrameId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Place = Annotated[int, Path(ge=0, le=255)]
IMMUTABLE = "private, max-age=31536000, immutable"


def _unchanged(request: Request, tag: str) -> Response | None:
    headers = {"ETag": tag, "Cache-Control": IMMUTABLE}
    known = tag in request.headers.get("if-none-match", "")
    return Response(status_code=304, headers=headers) if known else None


def _answer(content: bytes, tag: str) -> Response:
    headers = {"ETag": tag, "Cache-Control": IMMUTABLE, "Content-Disposition": "inline"}
    return Response(content, media_type="image/jpeg", headers=headers)


def add_pictures(router: APIRouter, context: Context) -> None:
    """Add the routes to the API's router."""
    reading = [Depends(needs("cases.read"))]

    def find(frame_id: str, request: Request, *, sees_case: bool) -> FrameRow:
        found = context.reader.frame(frame_id)
        if found is None:
            raise HTTPException(404, "no such frame")
        if sees_case:  # a worklist's thumbnails are no look at each of its cases
            saw_case(request, found.case.site, found.case.code)
        return found

    @router.get("/frames/{frame_id}/thumbnail", dependencies=reading, response_class=Response)
    def thumbnail(
        frame_id: FrameId, request: Request, width: Annotated[Literal["160", "320", "640"], Query()] = "320"
    ) -> Response:
        """The frame as a small JPEG of 160, 320 or 640 pixels' width; never wider than the frame."""
        frame = find(frame_id, request, sees_case=False)
        tag = f'"{frame.image_sha256}-{width}"'
        try:
            return _unchanged(request, tag) or _answer(
                context.pictures.thumbnail(
                    frame.image_sha256, context.reader.image_path(frame), width=int(width)
                ),
                tag,
            )
        except PictureError as error:
            raise HTTPException(410, str(error)) from None

    @router.get(
        "/frames/{frame_id}/tiles/{level}/{column}/{row}", dependencies=reading, response_class=Response
    )
    def tile(frame_id: FrameId, level: Place, column: Place, row: Place, request: Request) -> Response:
        """One tile of 512 x 512 pixels, as JPEG. Level 0 is the frame itself; each further level halves it."""
        frame = find(frame_id, request, sees_case=True)
        tag = f'"{frame.image_sha256}-{level}-{column}-{row}"'
        try:
            return _unchanged(request, tag) or _answer(
                context.pictures.tile(
                    frame.image_sha256,
                    context.reader.image_path(frame),
                    level=level,
                    column=column,
                    row=row,
                ),
                tag,
            )
        except NoSuchTile as error:
            raise HTTPException(404, str(error)) from None
        except PictureError as error:
            raise HTTPException(410, str(error)) from None
