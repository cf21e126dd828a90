/* rates.mjs: from counters to rates and quantiles. Counters go back when the server starts or somebody resets them: no rate then. */

export function rate(before, after, seconds) {
  if (before === undefined || before === null || after === null || after === undefined || !(seconds > 0)) return null;
  return after < before ? null : (after - before) / seconds;
}

// Of the commits between two readings of a histogram: an upper bound of the quantile, in the unit of `below`; null: there were none.
export function quantile(before, after, share) {
  const counts = after.map((bucket, i) => bucket.commits - (before?.[i]?.commits ?? 0));
  if (!before || before.length !== after.length || counts.some((count) => count < 0)) return null;
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let seen = 0;
  const i = counts.findIndex((count) => {
    seen += count;
    return seen >= total * share;
  });
  return after[i].below ?? after[i - 1].below;
}

// A ring of samples: arrays of one length, the oldest first.
export class History {
  constructor(names, capacity) {
    this.capacity = capacity;
    this.columns = Object.fromEntries(names.map((name) => [name, []]));
  }

  add(sample) {
    for (const [name, column] of Object.entries(this.columns)) {
      column.push(sample[name] ?? null);
      if (column.length > this.capacity) column.shift();
    }
  }
}
