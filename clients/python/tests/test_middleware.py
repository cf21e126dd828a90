"""The token of a visitor's writes comes back with the next request, in a cookie."""

from __future__ import annotations

import io
import re
import unittest
from typing import Any
from unittest import mock

from cache_aside_pg import AsgiToken, TokenCookie, WsgiToken, current_token

from .support import Tasks, Threads, until
from .test_router import Routing, paused

SECRET = "a secret of the tests"
LATER = "FFFFFFFF/FFFFFFFF"


class Cookies(unittest.TestCase):
    def test_a_cookie_is_believed_if_we_signed_it_not_long_ago(self) -> None:
        with mock.patch("time.time", lambda: 1800000000.5):
            written = TokenCookie("old", domain="example.org").write("0/3058EA0")
            # The Node.js package makes the same of it
            pair = "cache_aside=0/3058EA0.1800000000.E6yzJf2Qc_I5B0LellC1x4g9P5MReJkfymH4Sk_jpkc"
            self.assertEqual(written, f"{pair}; Max-Age=300; Path=/; HttpOnly; SameSite=Lax; Domain=example.org; Secure")
            cookie = TokenCookie(["new", "old"])
            self.assertEqual(cookie.read(f"a=b; {pair};c=d"), "0/3058EA0")
            for made_up in ("", "a=b", pair.replace("3058EA0", "3058EA1"), pair[:-1], pair.replace("18000", "18001")):
                self.assertIsNone(cookie.read(made_up), made_up)  # Remedy: _sign()
            self.assertIsNone(TokenCookie("new").read(pair))
        with mock.patch("time.time", lambda: 1800000302.0):
            self.assertIsNone(cookie.read(pair))  # Remedy: max_age in read()
        for secret in ("", [], ["a", ""]):
            self.assertRaises(ValueError, TokenCookie, secret)


class Visits:
    """A visitor renames, and looks: with the cookie of the answer it is seen although the standby has not replayed it."""

    flavor: Any
    published = True
    setUp, tearDown, make, name_of, served = Routing.setUp, Routing.tearDown, Routing.make, Routing.name_of, Routing.served

    def ask(self, path: str, cookie: str = "") -> tuple[str, str]:
        """The body, and the pair of the cookie that was set."""
        raise NotImplementedError

    def check(self) -> None:
        with paused():
            body, cookie = self.ask("/rename")
            self.assertEqual(body, "done")
            self.assertRegex(cookie, r"^cache_aside=[0-9A-F]+/")
            # Now and then it is not known what the replica has, and the writer answers.
            until("a stranger gets what the replica has, and no cookie", lambda: self.ask("/look") == ("name 3", ""))
            for _ in range(5):
                self.assertEqual(self.ask("/look", f"x=y; {cookie}"), ("renamed", ""))  # Remedy: read() in __call__
            made_up = re.sub("=[^.]*", f"={LATER}", cookie)
            until("a token made up is none", lambda: self.ask("/look", made_up) == ("name 3", ""))
        self.assertIsNone(current_token())


class Wsgi(Visits, unittest.TestCase):
    flavor = Threads()

    def ask(self, path: str, cookie: str = "") -> tuple[str, str]:
        headers: list[tuple[str, str]] = []
        environ = {"PATH_INFO": path, "HTTP_COOKIE": cookie, "REQUEST_METHOD": "GET", "SERVER_NAME": "localhost",
                   "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
        body = self.application(environ, lambda status, of, *more: headers.extend(of))
        text = b"".join(body).decode()
        if hasattr(body, "close"):
            body.close()
        return text, dict(headers).get("Set-Cookie", "").split(";")[0]

    def answer(self, path: str) -> str:
        if path == "/look":
            return self.name_of(3)
        with self.router.transaction() as connection:
            connection.execute("UPDATE people SET name = 'renamed' WHERE id = 3")
        return "done"

    def test_an_application(self) -> None:
        def application(environ: Any, start_response: Any) -> Any:
            text = self.answer(environ["PATH_INFO"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [text.encode()]

        self.application = WsgiToken(application, SECRET)
        self.check()

    def test_one_that_answers_piece_by_piece(self) -> None:
        def application(environ: Any, start_response: Any) -> Any:
            text = self.answer(environ["PATH_INFO"])  # runs when the first piece is asked for. Remedy: _Body
            start_response("200 OK", [])
            yield text[:2].encode()
            yield text[2:].encode()

        self.application = WsgiToken(application, SECRET)
        self.check()

    def test_django(self) -> None:
        try:
            import django
            from django.conf import settings
            from django.core.wsgi import get_wsgi_application
            from django.http import HttpResponse
            from django.urls import path
        except ImportError:
            self.skipTest("needs python3-django")
        looks = path("<name>", lambda request, name: HttpResponse(self.answer(f"/{name}")))
        if not settings.configured:
            settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=type("Urls", (), {"urlpatterns": [looks]}), SECRET_KEY="x")
            django.setup()
        self.application = WsgiToken(get_wsgi_application(), SECRET)
        self.check()


class Asgi(Visits, unittest.TestCase):
    flavor = Tasks()

    def ask(self, path: str, cookie: str = "") -> tuple[str, str]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"cookie", cookie.encode())]}
        self.flavor.wait(self.application(scope, receive, send))
        headers = dict(next(one for one in sent if one["type"] == "http.response.start")["headers"])
        text = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body").decode()
        return text, headers.get(b"set-cookie", b"").decode().split(";")[0]

    async def answer(self, path: str) -> str:
        router = self.router.inner
        if path == "/look":
            return (await router.read("SELECT name FROM people WHERE id = 3"))[0][0]
        async with router.transaction() as connection:
            await connection.execute("UPDATE people SET name = 'renamed' WHERE id = 3")
        return "done"

    def test_an_application(self) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            text = await self.answer(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": text.encode()})

        self.application = AsgiToken(application, SECRET)
        self.check()

    def test_starlette(self) -> None:
        try:
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse
            from starlette.routing import Route
        except ImportError:
            self.skipTest("needs python3-starlette")

        async def answer(request: Any) -> Any:
            return PlainTextResponse(await self.answer(request.url.path))

        self.application = Starlette(routes=[Route("/{name}", answer)])
        self.application.add_middleware(AsgiToken, secret=SECRET)
        self.check()

    def test_what_is_no_request_passes(self) -> None:
        seen: list[str] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        self.flavor.wait(AsgiToken(application, SECRET)({"type": "lifespan"}, None, None))
        self.assertEqual(seen, ["lifespan"])
