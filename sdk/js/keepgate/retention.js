// Which backups are kept: rules by count, age and calendar, for anything that has a time. The same rules as in
// the SDKs for Rust and Python; `sdk/tests/retention.json` compares all three.

const DAY = 86_400_000;
// How far ahead of the clock a time may be without being from the future, whose items are outside all rules.
const SKEW = 300_000;

const number = {
  daily: (time) => Math.floor(time / DAY),
  // Day 4 of the epoch was a Monday.
  weekly: (time) => Math.floor((Math.floor(time / DAY) - 4) / 7),
  monthly: (time) => new Date(time).getUTCFullYear() * 12 + new Date(time).getUTCMonth(),
  yearly: (time) => new Date(time).getUTCFullYear(),
};

const isAhead = (time, now) => time.getTime() > now.getTime() + SKEW;

export function fromTheFuture(items, options = {}) {
  const { now = new Date(), time = (item) => item.time } = options;
  return items.filter((item) => isAhead(time(item), now));
}

export function newestLast(items, options = {}) {
  const { now = new Date(), time = (item) => item.time } = options;
  return [...items].sort((a, b) => isAhead(time(b), now) - isAhead(time(a), now) || time(a) - time(b));
}

export function expired(items, policy, options = {}) {
  const { now = new Date(), time = (item) => item.time, isSpared = () => false } = options;
  const rules = Object.entries(number).map(([rule, of]) => ({ left: policy[rule] ?? 0, of, current: null }));
  let last = policy.last ?? 0;
  const gone = [];
  items.filter((item) => !isAhead(time(item), now)).reverse().forEach((item, age) => {
    const at = time(item).getTime();
    let kept = age === 0 || isSpared(item);
    kept = last-- > 0 || kept;
    kept = (policy.within !== undefined && at >= now.getTime() - policy.within) || kept;
    for (const rule of rules) {
      // Every rule sees every item, whatever the other rules make of it.
      const begins = rule.of(at) !== rule.current;
      rule.current = rule.of(at);
      kept = (begins && rule.left-- > 0) || kept;
    }
    if (!kept) {
      gone.push(item);
    }
  });
  return gone.reverse();
}

const UNITS = {
  ms: 1, msec: 1, s: 1000, sec: 1000, second: 1000, m: 60_000, min: 60_000, minute: 60_000,
  h: 3_600_000, hr: 3_600_000, hour: 3_600_000, d: DAY, day: DAY, w: 7 * DAY, week: 7 * DAY,
};

export function parseDuration(text) {
  const wrong = (why) => {
    throw new Error(`${JSON.stringify(text)} is not a duration: ${why}; write it as in \`7d\` or \`1m30s\``);
  };
  let milliseconds = 0;
  let rest = String(text).trim();
  while (rest !== "") {
    const found = /^([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*/.exec(rest) ?? wrong("it is not numbers with units");
    const unit = UNITS[found[2]] ?? UNITS[found[2].replace(/s$/, "")] ?? wrong(`unknown unit ${found[2]}`);
    milliseconds += Number(found[1]) * unit;
    rest = rest.slice(found[0].length);
  }
  return milliseconds > 0 ? milliseconds : wrong("it must be longer than zero");
}
