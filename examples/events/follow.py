"""Follows cache_aside.events, in a stream or on a channel. What follows has forget(keys, patterns) and forget_all()."""
import json
import re
import time

import redis


class Judge:
    """Hands events on, and sees by their numbers when some are missing."""

    def __init__(self, target, last=None):
        self.target = target
        self.last = last  # (series, number) of the last event; None: nobody knows

    def handle(self, text):
        event = json.loads(text)
        series, number = event["series"], event["number"]
        missed = self.last is None or series != self.last[0] or number > self.last[1] + 1
        if missed or event["all"]:
            self.target.forget_all()
        else:
            keys, patterns = ([text.encode() for text in event[kind]] + [bytes.fromhex(text) for text in event.get(kind + "_hex", [])]
                              for kind in ("keys", "patterns"))
            self.target.forget(keys, patterns)
        self.last = (series, number)


def follow_stream(server, name, group, target, running=lambda: True):
    """As the only one that reads in this group; others of it may wait to take its place. Dies when Redis is away: start it again."""
    memory = f"{group}:last"  # a key of ours: where we were, acknowledged in one step with the event
    found = server.get(memory)
    series, _, number = found.decode().partition(" ") if found else ("", "", "")
    judge = Judge(target, (series, int(number)) if found else None)
    try:
        server.xgroup_create(name, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
    at = "0"  # first what was read and not acknowledged, by the one before
    while running():
        found = server.xreadgroup(group, "reader", {name: at}, count=100, block=1000)
        entries = found[0][1] if found else []
        if at == "0" and not entries:
            at = ">"
        for entry, fields in entries:
            if fields:
                judge.handle(fields[b"event"])
            else:  # cut off before it was read again
                judge.last = None
                target.forget_all()
            with server.pipeline(transaction=True) as together:
                together.xack(name, group, entry)
                if judge.last:
                    together.set(memory, f"{judge.last[0]} {judge.last[1]}")
                else:
                    together.delete(memory)
                together.execute()


def follow_channel(server, name, target, running=lambda: True, silence=5):
    """For a cache that must not answer while nobody tells it: target.ready is true only while we hear."""
    while running():
        try:
            with server.pubsub() as channel:
                channel.subscribe(name)
                _listen(channel, target, running, silence)
        except (redis.RedisError, OSError):
            time.sleep(0.1)
        finally:
            target.ready = False


def _listen(channel, target, running, silence):
    judge = Judge(target)
    heard = asked = time.monotonic()
    while running():
        message = channel.get_message(timeout=0.2)
        now = time.monotonic()
        if message:
            heard = now
        elif now - heard > silence:  # a connection can be dead without a sign
            raise redis.ConnectionError("silent")
        if now - asked > silence / 3:
            asked = now
            channel.ping()
        if message and message["type"] == "subscribe":  # also when the client connected again by itself
            target.forget_all()  # what came before is lost
            judge.last = None
            target.ready = True
        elif message and message["type"] == "message":
            judge.handle(message["data"])


def glob_to_regex(pattern):
    """Redis's glob, as bytes."""
    out, at = b"", 0
    while at < len(pattern):
        char = pattern[at:at + 1]
        end = pattern.find(b"]", at + 1)
        if char == b"\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at:at + 1])
        elif char == b"[" and end > 0:
            out += pattern[at:end + 1]
            at = end
        else:
            out += {b"*": b".*", b"?": b"."}.get(char, re.escape(char))
        at += 1
    return re.compile(out + b"\\Z", re.DOTALL)
