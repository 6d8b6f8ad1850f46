// Small values with a form of their own in the contract: pairs of texts, users and times.

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

/** The user who asks, or for whom a job works; null for nobody. */
export function toPrincipal(principal) {
  if (principal === undefined || principal === null) {
    return null;
  }
  const { name, method, claims } = principal;
  return { name, method, claims: new Fields(claims) };
}

/**
 * The host counts nanoseconds, which a number holds only to within 256 of them these years. A Date that comes back from
 * the host must not lose a millisecond by that.
 */
export function toDate(nanoseconds) {
  return new Date(Math.floor(nanoseconds / 1e6 + 0.001));
}

/** The reverse of `toDate`. */
export function toNanoseconds(date) {
  return Math.trunc(date.getTime() * 1e6);
}
