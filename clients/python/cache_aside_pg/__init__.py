"""Rows of PostgreSQL through Redis, and reads on replicas that see what was written. See README.md."""

from .cache import AsyncCache, Cache, async_redis_options, redis_options
from .context import current_token, note_token, use_token
from .cookie import TokenCookie
from .errors import RuleError, VersionConflictError
from .middleware import AsgiToken, WsgiToken
from .pool import AsyncPool, Pool
from .repository import AsyncCachedRepository, CachedRepository
from .router import AsyncRouter, Router

__all__ = [
    "AsgiToken",
    "AsyncCache",
    "AsyncCachedRepository",
    "AsyncPool",
    "AsyncRouter",
    "Cache",
    "CachedRepository",
    "Pool",
    "Router",
    "RuleError",
    "TokenCookie",
    "VersionConflictError",
    "WsgiToken",
    "async_redis_options",
    "current_token",
    "note_token",
    "redis_options",
    "use_token",
]
