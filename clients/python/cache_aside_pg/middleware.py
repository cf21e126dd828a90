"""A visitor reads what the visitor wrote: the token of a request's writes goes into a cookie, and the next request's reads
see them, whichever process or replica serves it.

The cookie is set when the headers are sent. A write after that is not in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextvars import Context, copy_context
from typing import Any

from .context import begin_token, current_token, use_token
from .cookie import TokenCookie

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class WsgiToken:
    """Around a WSGI application: `application = WsgiToken(application, secret="...")`. See `TokenCookie` for the options."""

    def __init__(self, application: Callable[..., Iterable[bytes]], secret: Any, **options: Any) -> None:
        self._application, self._cookie = application, TokenCookie(secret, **options)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """An application may answer piece by piece, each time it is asked; all of it runs in the context of this request."""
        came = self._cookie.read(environ.get("HTTP_COOKIE", ""))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, headers + self._headers(came), *more)

        context = copy_context()
        context.run(begin_token, came)
        return _Body(context, context.run(self._application, environ, start))

    def _headers(self, came: str | None) -> list[tuple[str, str]]:
        token = current_token()
        return [] if token is None or token == came else [("Set-Cookie", self._cookie.write(token))]


class _Body:
    """What a WSGI application returned, in its context."""

    def __init__(self, context: Context, body: Iterable[bytes]) -> None:
        self._context, self._body = context, body

    def __iter__(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] = self._context.run(lambda: iter(self._body))
        while (piece := self._context.run(lambda: next(pieces, None))) is not None:
            yield piece

    def close(self) -> None:
        if hasattr(self._body, "close"):
            self._context.run(self._body.close)


class AsgiToken:
    """Around an ASGI application: `app = AsgiToken(app, secret="...")`, or `app.add_middleware(AsgiToken, secret="...")`."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], secret: Any, **options: Any) -> None:
        self._app, self._cookie = app, TokenCookie(secret, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only answers to HTTP carry a cookie; a WebSocket sees what came with its first request."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        came = self._cookie.read("; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"))

        async def send_with_cookie(message: Message) -> None:
            token = current_token()
            if message["type"] == "http.response.start" and token is not None and token != came:
                cookie = (b"set-cookie", self._cookie.write(token).encode("latin-1"))
                message = {**message, "headers": [*message.get("headers", ()), cookie]}
            await send(message)

        with use_token(came):
            await self._app(scope, receive, send_with_cookie)
