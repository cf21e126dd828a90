"""An application's work through redis-py, as the user that docs/operations.md gives it. Arguments: socket, token."""
import sys

import redis


def main(path, token):
    r = redis.Redis(unix_socket_path=path, username="app", password="secret", db=1, client_name="redis-py",
                    decode_responses=True, health_check_interval=1)
    lease = r.fcall("cache_aside_get", 1, "user:py", 2000)[0]
    assert r.fcall("cache_aside_get", 1, "user:py", 2000) is None
    assert r.fcall("cache_aside_fill", 1, "user:py", "v", 60000, token, lease) == 1
    assert r.fcall("cache_aside_get", 1, "user:py", 2000) == "v"
    assert r.fcall("cache_aside_fill_many", 2, "user:p1", "user:p2", 60000, token, "a", "b") == [1, 1]
    assert r.fcall("cache_aside_get_many", 2, "user:p1", "user:p2", 0) == ["a", "b"]
    assert r.mget("user:p1", "user:p2") == ["a", "b"]
    with r.pipeline(transaction=False) as pipe:
        assert pipe.set("user:p3", "c", ex=60).delete("user:p1").execute() == [True, 1]
    assert r.get("cache_aside:stick:42") == "0/1"
    assert r.hgetall("cache_aside:replicas") == {}
    assert r.ping() and r.info("server")
    refused(lambda: r.fcall("cache_aside_claim_1", 2, "user:a", "user:b", "n" * 16, 1))
    refused(lambda: r.set("cache_aside:position:1", "x"))


def refused(call):
    try:
        call()
    except redis.exceptions.NoPermissionError:
        return
    raise AssertionError("not refused")


main(*sys.argv[1:])
print("done")
