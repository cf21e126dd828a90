"""What needs no server."""

import datetime
import unittest
import uuid
from decimal import Decimal

import redis

from cache_aside_pg import Cache, current_token, note_token, use_token
from cache_aside_pg.codec import make_decoder, to_json
from cache_aside_pg.keys import key_text, parse_template
from cache_aside_pg.lsn import later_token, parse_lsn
from cache_aside_pg.table import Column


class Units(unittest.TestCase):
    def test_lsn(self) -> None:
        self.assertEqual(parse_lsn("1/0000000A"), (1 << 32) + 10)
        for text in ("", "1", "1/", "/1", "1/1 ", "123456789/0", "x/1", None, 5):
            self.assertIsNone(parse_lsn(text))
        self.assertEqual(later_token("1/0", "0/FFFFFFFF"), "1/0")
        self.assertEqual(later_token("9/0", "10/0"), "10/0")  # as numbers, not as text
        self.assertEqual([later_token(None, "0/1"), later_token("rubbish", "0/1"), later_token(None, "x")], ["0/1", "0/1", None])

    def test_token_of_a_request(self) -> None:
        note_token("5/0")
        self.assertIsNone(current_token())
        with use_token("1/0"):
            note_token("2/0")
            note_token("1/5")  # it only goes forward
            with use_token():
                self.assertIsNone(current_token())
            self.assertEqual(current_token(), "2/0")
        with use_token("made up"):
            self.assertIsNone(current_token())

    def test_templates(self) -> None:
        template = parse_template("{{{a}}}:{b#2}:}{a#3}", {"a", "b", "a#3"})
        texts = {"a": "1", "b": "2", "a#3": "3"}
        self.assertEqual(template.all_keys(texts), ["{1}:2#0:}3", "{1}:2#1:}3"])
        self.assertIn(template.one_key(texts), template.all_keys(texts))
        for text in ("x:{a", "x:{c}", "x:{a#x}"):
            with self.assertRaises(ValueError):
                parse_template(text, {"a"})

    def test_keys(self) -> None:
        right = [
            ("int8", 7, "7"), ("int4", "+007", "7"), ("int2", -0, "0"), ("bool", True, "t"), ("text", "ü {} *", "ü {} *"),
            ("uuid", uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), ("date", datetime.date(44, 3, 15), "0044-03-15"),
            ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), ("date", "2024-02-29", "2024-02-29"),
        ]  # fmt: skip
        for kind, value, text in right:
            self.assertEqual(key_text("c", kind, value), text)
        wrong = [
            ("int8", True), ("int8", 1.0), ("int8", "1 "), ("int8", None), ("bool", 1), ("text", 1), ("text", "\0"), ("text", "\ud800"),
            ("uuid", "x"), ("date", "2023-02-29"), ("date", datetime.datetime.now()), ("numeric", 1), ("date", "20240229"),
        ]  # fmt: skip
        for kind, value in wrong:
            with self.assertRaises(TypeError, msg=f"{kind} {value!r}"):
                key_text("c", kind, value)

    def test_numbers(self) -> None:
        columns = [Column(n, t, a, "", True) for n, t, a in (
            ("i", "int8", False), ("n", "numeric", False), ("ns", "numeric", True), ("f", "float8", False), ("j", "jsonb", False),
        )]  # fmt: skip
        decode = make_decoder(columns, {})
        big = "1" * 5000
        row = decode('{"i":9223372036854775807,"n":12345678901234567890.1200,"ns":[[1],["NaN"],[null]],"f":1,"j":{"x":0.10,"y":%s},"z":1}' % big)
        self.assertEqual(list(row), ["i", "n", "ns", "f", "j"])  # not what was added since
        self.assertEqual((row["i"], str(row["n"]), row["f"]), (2**63 - 1, "12345678901234567890.1200", 1.0))
        self.assertIsInstance(row["f"], float)
        self.assertEqual(str(row["ns"]), "[[Decimal('1')], [Decimal('NaN')], [None]]")
        self.assertEqual((str(row["j"]["x"]), str(row["j"]["y"])), ("0.10", big))
        self.assertEqual(to_json(row["j"]), '{"x": 0.10, "y": %s}' % big)
        self.assertEqual(to_json([True, None, "ü", Decimal("1.50"), {"a": (1, 2.5)}]), '[true, null, "\\u00fc", 1.50, {"a": [1, 2.5]}]')
        self.assertEqual(make_decoder(columns[:1], {"i": str})('{"i":1}'), {"i": "1"})
        for text in ('{"n":1}', "1", "[]", "rubbish"):
            with self.assertRaises(Exception):
                make_decoder(columns[:1], {})(text)

    def test_a_client_that_would_wait_for_ever_is_refused(self) -> None:
        with self.assertRaisesRegex(TypeError, "redis_options"):
            Cache(redis.Redis())
