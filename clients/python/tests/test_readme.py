"""The code of README.md, as it is written there and in its order."""

import contextlib
import io
import os
import re
import unittest
from pathlib import Path
from typing import Any

from .support import admin, delivered

PAGE = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


class Readme(unittest.TestCase):
    def test_its_code(self) -> None:
        os.environ["REDIS_URL"] = f"unix://{os.environ['REDIS_SOCKET']}"
        admin.execute("DROP TABLE IF EXISTS users")
        blocks = re.findall(r"^```(python|sql)\n(.*?)^```", PAGE, re.M | re.S)
        self.assertEqual([kind for kind, _ in blocks], ["sql", *["python"] * 5])
        names: dict[str, Any] = {}
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            for kind, text in blocks:
                if kind == "sql":
                    admin.execute(text)
                    delivered()
                else:
                    exec(compile(text, "README.md", "exec", dont_inherit=True), names)
        lines = said.getvalue().splitlines()
        self.assertEqual(lines[:2], ["Barbara", "Grace"])
        self.assertRegex(lines[2], r"^\{'id': 42, 'name': 'Ada', 'credit': Decimal\('3.50'\), 'version': \d+\}$")
        self.assertIn("'template': 'user:{id}', 'trouble': None", lines[3])
