"""The app's own pages: a folder of built files, with the entry page for every path that is no file.

Fingerprinted files under `assets/` may be kept for ever; the entry page is asked for anew each time, so that a new
build is seen at the next load.
"""

from collections.abc import Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

# Our own live socket is 'self' too (CSP level 3). Styles that an app's components set are inline; scripts never are.
_POLICY = (
    "default-src 'self'; connect-src {}; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_FILES = frozenset({".js", ".css", ".map", ".png", ".svg", ".ico", ".json", ".txt", ".webmanifest"})


def page_routes(folder: Path | None, *, connect: Iterable[str] = ()) -> list[Route]:
    """Serve `folder`; without one, `/` says where an app goes. `connect`: origins besides our own that the pages may
    fetch from."""
    if folder is None:
        return [Route("/", _no_app, methods=["GET"])]
    root = folder.resolve()
    entry = root / "index.html"
    security = {"Content-Security-Policy": _POLICY.format(" ".join(["'self'", *sorted(connect)]))}
    if not entry.is_file():
        raise FileNotFoundError(f"{entry} is missing: build the app first")

    async def page(request: Request) -> Response:
        try:
            wanted = (root / request.path_params["path"]).resolve()
            found = wanted.is_relative_to(root) and wanted.is_file() and wanted != entry
        except (OSError, ValueError):
            # No file system has such a name: too long, or with a NUL in it.
            return PlainTextResponse("not found\n", status_code=404)
        if found:
            lasting = wanted.parent == root / "assets"
            cache = "public, max-age=31536000, immutable" if lasting else "no-cache"
            return FileResponse(wanted, headers={**security, "Cache-Control": cache})
        if wanted.parent == root / "assets" or wanted.suffix in _FILES:
            # A file that is not there; a page's address may hold a dot too, since a FHIR id may.
            return PlainTextResponse("not found\n", status_code=404)
        return FileResponse(entry, headers={**security, "Cache-Control": "no-cache"})

    return [Route("/{path:path}", page, methods=["GET"])]


async def _no_app(request: Request) -> Response:
    return PlainTextResponse(
        "bonfire is running. The live socket is at /live, FHIR is under /fhir.\n"
        "Serve your own app's built files with --app DIR.\n"
    )
