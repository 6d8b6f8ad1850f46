// Small values that the contract has in its own form: pairs of texts, and times.

export class Fields {
  #pairs;

  constructor(pairs = []) {
    this.#pairs = pairs;
  }

  get(name) {
    return this.#pairs.find(([found]) => found === name)?.[1] ?? null;
  }

  getAll(name) {
    return this.#pairs.filter(([found]) => found === name).map(([, value]) => value);
  }

  has(name) {
    return this.#pairs.some(([found]) => found === name);
  }

  [Symbol.iterator]() {
    return this.#pairs[Symbol.iterator]();
  }
}

export function toPairs(fields) {
  if (fields === undefined || fields === null) {
    return [];
  }
  const pairs = typeof fields[Symbol.iterator] === "function" ? [...fields] : Object.entries(fields);
  return pairs.map(([name, value]) => [String(name), String(value)]);
}

/** Who is asking, or for whom a job works; null for nobody. */
export function toPrincipal(principal) {
  if (principal === undefined || principal === null) {
    return null;
  }
  const { name, method, claims } = principal;
  return { name, method, claims: new Fields(claims) };
}

/**
 * The host counts nanoseconds, which a number holds only roughly: to 256 of them in these years. A Date that
 * went to the host and comes back must not lose a millisecond by that.
 */
export function toDate(nanoseconds) {
  return new Date(Math.floor(nanoseconds / 1e6 + 0.001));
}

/** The same the other way round. */
export function toNanoseconds(date) {
  return Math.trunc(date.getTime() * 1e6);
}
