"""Rows of Django's models through Django's cache: get(Book, 7), under the key ":1:book:7".

The entry is what Django's own Redis backends write, a pickle under the key that the cache framework makes, so cache.get("book:7")
and cache.delete("book:7") work on it, too. Only the fill is another one: it needs a token that proves how fresh the read was.
"""
import pickle

import redis
from django.core.cache import cache
from django.db.models import TextField
from django.db.models.expressions import RawSQL

TTL_MS = 300_000
server = None  # redis.Redis, with short time-outs; set once


def get(model, pk):
    """The object, or None: from the cache, else from the database; then it is cached, if Redis finds that it is fresh."""
    key = cache.make_key(f"{model._meta.model_name}:{pk}")
    try:
        found = server.get(key)
    except redis.RedisError:
        found = None  # Redis is away: that is a miss
    if found is not None:
        return pickle.loads(found)
    # The token is of the snapshot in which the row was read, so it is selected with it. No token after a write of this
    # transaction, and none in REPEATABLE READ that began long ago: such a read is not cached, or refused.
    token = RawSQL("cache_aside.read_token()", (), output_field=TextField())
    read = model.objects.annotate(token_of_read=token).filter(pk=pk).first()
    if read is not None:
        fill(key, read)
    return read


def fill(key, read):
    token = read.__dict__.pop("token_of_read")
    if token is None:
        return
    try:
        server.execute_command("FCALL", "cache_aside_fill", 1, key, pickle.dumps(read), TTL_MS, token)
    except redis.RedisError:
        pass  # what was read is right to use all the same
