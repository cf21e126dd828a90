"""Objects of SQLAlchemy through Redis: get(session, Book, 7), under the key "book:7" (its table's name and its primary key)."""
import pickle

import redis
from sqlalchemy import func, inspect, select
from sqlalchemy.orm import make_transient_to_detached

TTL_MS = 300_000
server = None  # redis.Redis, with short time-outs; set once


def get(session, entity, ident):
    """The object in this session, or None: from the cache, else from the database; then it is cached, if Redis finds it fresh."""
    mapper = inspect(entity)
    known = session.identity_map.get(mapper.identity_key_from_primary_key((ident,)))
    if known is not None and not inspect(known).expired:
        return known  # this session's own object, with what it may have changed
    key = f"{mapper.local_table.name}:{ident}"
    columns = [attribute.key for attribute in mapper.column_attrs]
    try:
        found = server.get(key)
    except redis.RedisError:
        found = None  # Redis is away: that is a miss
    if found is not None:
        return session.merge(_object(entity, columns, pickle.loads(found)), load=False)
    # The token is of the snapshot in which the row was read, so it is selected with it.
    [attribute] = [mapper.get_property_by_column(column) for column in mapper.primary_key]
    query = select(entity, func.cache_aside.read_token()).where(getattr(entity, attribute.key) == ident)
    read, token = session.execute(query.execution_options(populate_existing=True)).first() or (None, None)
    if read is not None and token is not None:  # there is none after a write of this transaction
        fill(key, {name: getattr(read, name) for name in columns}, token)
    return read


def fill(key, row, token):
    try:
        server.execute_command("FCALL", "cache_aside_fill", 1, key, pickle.dumps(row), TTL_MS, token)
    except redis.RedisError:
        pass  # what was read is right to use all the same


def _object(entity, columns, row):
    made = entity(**{name: row[name] for name in columns})
    make_transient_to_detached(made)
    return made
