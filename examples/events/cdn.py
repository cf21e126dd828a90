"""Purges a CDN: cdn.py redis://host/0 cache_aside:events:<system identifier> http://cdn.example"""
import sys
import urllib.parse
import urllib.request

import redis

from follow import follow_stream


class Cdn:
    def __init__(self, base):
        self.base = base

    def purge(self, path):
        request = urllib.request.Request(self.base + path, method="PURGE")
        urllib.request.urlopen(request, timeout=10).close()  # an error ends us: the event is read again

    def forget(self, keys, patterns):
        for key in keys:  # user:7 -> /user/7; a page may have many keys, then purge by a tag named like the key
            self.purge("/" + urllib.parse.quote(key.replace(b":", b"/")))
        if patterns:
            self.forget_all()  # or by a prefix, where the CDN knows such

    def forget_all(self):
        self.purge("/*")


if __name__ == "__main__":
    follow_stream(redis.Redis.from_url(sys.argv[1]), sys.argv[2], "cdn", Cdn(sys.argv[3]))
