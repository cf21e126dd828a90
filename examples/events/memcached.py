"""Deletes from a memcached: memcached.py redis://host/0 cache_aside:events:<system identifier> host port"""
import socket
import sys

import redis

from follow import follow_stream


class Memcached:
    def __init__(self, host, port):
        self.connection = socket.create_connection((host, int(port)), timeout=10)
        self.answers = self.connection.makefile("rb")

    def ask(self, commands):
        self.connection.sendall(b"".join(command + b"\r\n" for command in commands))
        for _ in commands:
            if self.answers.readline().strip() not in (b"DELETED", b"NOT_FOUND", b"OK"):
                raise ConnectionError("memcached refuses")  # ends us: the event is read again

    def forget(self, keys, patterns):
        # Others than these cannot be keys of memcached.
        self.ask([b"delete " + key for key in keys if 0 < len(key) <= 250 and min(key) > 32 and 127 not in key])
        if patterns:
            self.forget_all()

    def forget_all(self):
        self.ask([b"flush_all"])


if __name__ == "__main__":
    follow_stream(redis.Redis.from_url(sys.argv[1]), sys.argv[2], "memcached", Memcached(*sys.argv[3:]))
