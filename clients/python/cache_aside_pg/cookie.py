"""The token in a cookie: `<LSN>.<seconds>.<signature>`, so that a browser can bring it, but not make one.

A token that is made up, or from the future, would send every read of that visitor to the primary. The Node.js package writes
the same cookie, so services in both languages can share it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from typing import Literal

from .lsn import parse_lsn

_WORTH = re.compile(r"([0-9A-F]{1,8}/[0-9A-F]{1,8})\.([0-9]{1,11})\.([A-Za-z0-9_-]{43})")


class TokenCookie:
    """Options of the middleware:

    secret      signs the cookie; of several the first signs, and all are accepted: so a secret can be changed
    max_age     how long a write is remembered, in seconds; by then every replica in use has replayed it
    secure      only over HTTPS
    """

    def __init__(
        self,
        secret: str | Sequence[str],
        *,
        name: str = "cache_aside",
        max_age: int = 300,
        secure: bool = True,
        path: str = "/",
        domain: str | None = None,
        same_site: Literal["Strict", "Lax", "None"] = "Lax",
    ) -> None:
        self._secrets = [secret] if isinstance(secret, str) else list(secret)
        if not self._secrets or not all(self._secrets):
            raise ValueError("the cookie of the token needs a secret")
        self._name, self._max_age = name, max_age
        self._attributes = "; ".join(
            [f"Max-Age={max_age}", f"Path={path}", "HttpOnly", f"SameSite={same_site}"]
            + ([f"Domain={domain}"] if domain else [])
            + (["Secure"] if secure else [])
        )

    def write(self, token: str) -> str:
        """The value of a Set-Cookie header."""
        content = f"{token}.{int(time.time())}"
        return f"{self._name}={content}.{_sign(content, self._secrets[0])}; {self._attributes}"

    def read(self, header: str) -> str | None:
        """The token in a Cookie header; None when there is none that we signed, or it is too old."""
        begin = f"{self._name}="
        parts = (part.strip() for part in header.split(";"))
        text = next((part[len(begin) :] for part in parts if part.startswith(begin)), "")
        worth = _WORTH.fullmatch(text)
        if worth is None or parse_lsn(worth[1]) is None or abs(time.time() - int(worth[2])) > self._max_age:
            return None
        content = f"{worth[1]}.{worth[2]}"
        return worth[1] if any(hmac.compare_digest(_sign(content, one), worth[3]) for one in self._secrets) else None


def _sign(content: str, secret: str) -> str:
    signature = hmac.new(secret.encode(), content.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(signature).decode().rstrip("=")
