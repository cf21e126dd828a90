"""Errors that a caller may want to tell apart."""


class RuleError(Exception):
    """The table cannot be cached as asked: no rule, or one that does not fit. The message has the statement to run."""


class VersionConflictError(Exception):
    """`update` found the row at another version than the one that was read. Read it again, decide, try again."""

    def __init__(self, table: str, key: object, expected: int, found: int) -> None:
        super().__init__(f"row version conflict in table {table}: expected version {expected}, found {found}")
        self.table, self.key, self.expected, self.found = table, key, expected, found
