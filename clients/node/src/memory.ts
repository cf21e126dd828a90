/**
 * What was read while Redis refused to store it, for `staleWhileRefusedMs`. Bounded: the oldest goes first.
 */
const MAX_ENTRIES = 1000;

/** @internal */
export class Memory {
  private readonly entries = new Map<string, { readonly text: string; readonly until: number }>();

  /** @param ms how long an entry may be used; 0: nothing is kept */
  constructor(private readonly ms: number) {}

  get(key: string): string | undefined {
    const entry = this.entries.get(key);
    if (entry && entry.until > Date.now()) return entry.text;
    this.entries.delete(key);
    return undefined;
  }

  set(key: string, text: string): void {
    if (this.ms <= 0) return;
    this.entries.delete(key);
    this.entries.set(key, { text, until: Date.now() + this.ms });
    const [oldest] = this.entries.keys();
    if (this.entries.size > MAX_ENTRIES && oldest !== undefined) this.entries.delete(oldest);
  }

  delete(keys: readonly string[], prefix: string): void {
    for (const key of keys) this.entries.delete(prefix + key);
  }
}
