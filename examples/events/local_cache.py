"""A cache inside this process: cache = LocalCache(server, "cache_aside:events:..."); cache.get(b"user:7", load)"""
import threading

from follow import follow_channel, glob_to_regex


class LocalCache:
    def __init__(self, server, name, most=10_000):
        self.ready = False  # nobody tells us: nothing is answered from here
        self.values, self.most = {}, most
        self.lock, self.heard = threading.Lock(), 0
        threading.Thread(target=follow_channel, args=(server, name, self), daemon=True).start()

    def get(self, key, load):
        """load(key) asks Redis, or the database."""
        with self.lock:
            if self.ready and key in self.values:
                return self.values[key]
            heard = self.heard
        value = load(key)
        with self.lock:
            if self.ready and heard == self.heard:  # else it may be older than what we heard meanwhile
                if len(self.values) >= self.most:
                    self.values.pop(next(iter(self.values)))
                self.values[key] = value
        return value

    def forget(self, keys, patterns):
        with self.lock:
            self.heard += 1
            for key in keys:
                self.values.pop(key, None)
            for regex in map(glob_to_regex, patterns):
                self.values = {key: value for key, value in self.values.items() if not regex.match(key)}

    def forget_all(self):
        with self.lock:
            self.heard += 1
            self.values.clear()
