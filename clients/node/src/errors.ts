/** The table cannot be cached as asked: no rule, or one that does not fit. The message has the statement to run. */
export class RuleError extends Error {
  override readonly name = "RuleError";
}

/** `update` found the row at another version than the one that was read. Read it again, decide, try again. */
export class VersionConflictError extends Error {
  override readonly name = "VersionConflictError";

  constructor(
    /** The table. */
    readonly table: string,
    /** The key that was given. */
    readonly key: unknown,
    /** The version that was expected. */
    readonly expected: bigint,
    /** The version that the row is at. */
    readonly found: bigint,
  ) {
    super(`row version conflict in table ${table}: expected version ${expected}, found ${found}`);
  }
}
