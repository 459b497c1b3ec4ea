"""The approvals page itself: one HTML file, one script, one style sheet, nothing from anywhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import quote

from .handler import Handler

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_FOLDER = Path(__file__).parent / "web"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}


@cache
def _file(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


def wanted(handler: Handler) -> bool:
    """Whether a browser asks for the page rather than a program for the data."""
    headers = handler.request.headers
    return (
        handler.request.method == "GET" and "text/html" in headers.get("Accept", "") and "Authorization" not in headers
    )


def send(handler: Handler) -> None:
    """The page, which holds no data itself; whoever is not signed in is sent to sign in."""
    browsers, cookie = handler.listener.browsers, handler.get_cookie(handler.cookie_name("session")) or ""
    handler.origin()
    if browsers.find(cookie, handler.services.clock()) is None:
        handler.redirect(f"/login?next={quote(handler.request.path, safe='')}")
        return
    _put(handler, "approvals.html")


def _put(handler: Handler, name: str) -> None:
    handler.set_header("Content-Type", _TYPES[Path(name).suffix])
    handler.set_header("Content-Security-Policy", CSP)
    handler.set_header("Referrer-Policy", "same-origin")
    handler.set_header("Cross-Origin-Opener-Policy", "same-origin")
    handler.set_header("Cross-Origin-Resource-Policy", "same-origin")
    handler.set_header("X-Frame-Options", "DENY")
    handler.finish(_file(name))


class Asset(Handler):
    """Script and style: the same for everyone, and not a secret."""

    async def prepare(self) -> None:
        return None

    def get(self, name: str) -> None:
        _put(self, name)
