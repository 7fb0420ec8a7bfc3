"""Rating on a local page. It is served to this machine only, and to nobody who lacks the key in its address.

The texts come from a model and are not trusted: they leave the server as JSON only, and the page sets them as
text. What else could reach a server on 127.0.0.1 is any page open in the same browser and, with a name that
resolves to 127.0.0.1, any site on the net: hence the checks of Host and Origin, and a cookie.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from chapters.rating.session import Progress, Session
from chapters.rating.store import StaleAnswer
from chapters.utils.lesson import UsageError

PAGE = Path(__file__).with_name("page.html")
CHOICES = ("left", "right", "tie", "skip")
MAX_BODY = 1024  # bytes
SECONDS_TO_END = 5.0
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    NOTHING + "; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the key
    "X-Content-Type-Options": "nosniff",
}


def rate_in_browser(session: Session, port: int = 0, open_browser: bool = True) -> Progress:
    """Serve the page on 127.0.0.1 until its Finish button. Every answer is kept, also when Ctrl-C interrupts.

    Port 0 takes any that is free. Raises UsageError if the port cannot be had.
    For a machine far away, give a port and forward the same one (`ssh -L 8765:127.0.0.1:8765 …`).
    """
    import uvicorn

    with contextlib.closing(listen_on(port)) as listening:
        app = RatingApp(
            session, listening.getsockname()[1], finish=lambda: setattr(server, "should_exit", True)
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        )
        logging.getLogger("uvicorn.error").addFilter(is_news)  # after Config, which sets the logger up
        # A thread of its own, so that this works in a notebook too and Ctrl-C arrives here
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        print(f"Rate at {app.address}\nFinish there, or press Ctrl-C: every answer is kept.", flush=True)
        if open_browser and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
            webbrowser.open(app.address)
        try:
            thread.join()
        finally:
            server.should_exit = True
            thread.join(SECONDS_TO_END)
            server.force_exit = True  # whoever hangs on a connection does not hold the lesson up
            thread.join(SECONDS_TO_END)
            print(*session.summary(), sep="\n", flush=True)
    return session.progress


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log is worth showing: that Finish cut somebody off is not."""
    cut_off = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "graceful shutdown" not in record.getMessage()


def listen_on(port: int) -> socket.socket:
    """A socket that already listens on 127.0.0.1, so that a port in use is known before anything starts."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(64)
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or "allowed: 0 to 65535"
        raise UsageError(f"port {port}: cannot listen there ({why}); 0 takes any free port") from None
    return listening


class RatingApp:
    """The ASGI application: one page, and the three things that it may ask for."""

    def __init__(self, session: Session, port: int, finish: Callable[[], None]) -> None:
        self.session, self.finish = session, finish
        self.key = secrets.token_urlsafe(24)
        self.address = f"http://127.0.0.1:{port}/?key={self.key}"
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.cookie = f"rating_{port}"  # cookies know hosts, but no ports
        self.routes = Starlette(
            routes=[
                Route("/", self.page),
                Route("/state", self.show_state),
                Route("/answer", self.answer, methods=["POST"]),
                Route("/undo", self.undo, methods=["POST"]),
                Route("/finish", self.end, methods=["POST"]),
            ],
            exception_handlers={
                StaleAnswer: self.stale,
                UsageError: lambda _, error: PlainTextResponse(str(error), 503),
                ClientDisconnect: lambda *_: Response(status_code=400),
            },
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Content-Security-Policy", NOTHING)
            await send(message)

        refusal = self.refusal(Request(scope))
        app = PlainTextResponse(refusal, 403) if refusal else self.routes
        await app(scope, receive, send_with_headers)

    def refusal(self, request: Request) -> str:
        """Why this request gets no answer; "" if it does."""
        host = request.headers.get("host", "").lower()
        if host not in self.hosts:
            return f"this page is at {self.hosts[0]} only"
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") != f"http://{host}":
            return "only this page's own requests are answered"
        key = request.query_params.get("key", "") if request.url.path == "/" else ""
        key = key or request.cookies.get(self.cookie, "")
        if not secrets.compare_digest(key.encode(), self.key.encode()):
            return "open the whole address that the terminal shows, with its key"
        return ""

    async def page(self, request: Request) -> Response:
        if "key" in request.query_params:  # from here on the cookie does it
            response = RedirectResponse("/", 303)
            response.set_cookie(self.cookie, self.key, httponly=True, samesite="lax")
            return response
        nonce = secrets.token_urlsafe(16)
        policy = {"Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)}
        return HTMLResponse(PAGE.read_text(encoding="utf-8").replace("NONCE", nonce), headers=policy)

    def state(self) -> dict[str, Any]:
        shown, (done, total) = self.session.next(), self.session.progress
        state = {"token": self.session.token, "done": done, "total": total}
        state["criterion"] = self.session.criterion
        if shown is None:
            return state | {"summary": self.session.summary()}
        return state | {"prompt": shown.pair.prompt, "left": shown.text("left"), "right": shown.text("right")}

    async def show_state(self, request: Request) -> Response:
        return JSONResponse(self.state())

    async def answer(self, request: Request) -> Response:
        body = await read_body(request)
        if body.get("choice") not in CHOICES:
            raise HTTPException(400, f"choice must be one of {', '.join(CHOICES)}")
        self.session.next()
        self.session.answer(body["choice"], token=body["token"], source="web")
        return JSONResponse(self.state())

    async def undo(self, request: Request) -> Response:
        body = await read_body(request)
        self.session.undo(token=body["token"], source="web")
        return JSONResponse(self.state())

    async def end(self, request: Request) -> Response:
        await read_body(request)
        self.finish()
        return JSONResponse({"summary": self.session.summary()})

    async def stale(self, request: Request, error: Exception) -> Response:
        return JSONResponse(self.state(), 409)


async def read_body(request: Request) -> dict[str, Any]:
    """A small JSON object with a whole number as `token`; anything else is refused in one line."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise HTTPException(413, f"the body may have at most {MAX_BODY} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(body, dict) or type(body.get("token")) is not int:
        raise HTTPException(400, "the body must be an object with a whole number as token")
    return body
