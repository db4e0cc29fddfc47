"""What stands before every request: the Host check and the security headers.

The Host check defeats DNS rebinding: a page on another site must not read this one through a name it controls.
"""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


TOO_LONG = "What was sent is too long, and was not taken."
MAX_BODY_BYTES = 1_000_000
"""What is sent here is a form or a small JSON; frames come through the broker."""


def host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


class Guard:
    """ASGI middleware, before everything else.

    Args:
        app: What it guards.
        host_names: The names that a request may carry.
    """

    def __init__(self, app: ASGIApp, host_names: Iterable[str]) -> None:
        self._app = app
        self._host_names = frozenset(host_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 to a foreign Host and 413 to a long body, otherwise pass on and add the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # Pages hold what concerns a patient and are never kept; our own files are, and asked about each time.
                own_file = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if own_file else "no-store")
                if not own_file:  # what a browser keeps of one session is not another's
                    headers.add_vary_header("Cookie")
                    headers.add_vary_header("Authorization")
            await send(message)

        if host_name(Headers(scope=scope).get("host", "")) not in self._host_names:
            refusal = PlainTextResponse(
                "This dashboard does not answer to that host name. Use localhost, or add the name to allowed_hosts in its "
                "settings.\n",
                status_code=421,
            )
            await refusal(scope, receive, send_guarded)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES:
            await PlainTextResponse(f"{TOO_LONG}\n", status_code=413)(scope, receive, send_guarded)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, TOO_LONG)
            return message

        await self._app(scope, receive_bounded, send_guarded)
