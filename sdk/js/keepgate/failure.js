// The contract's failures as exceptions, in both directions.

const MESSAGES = {
  "not-found": [404, "not found"],
  "already-exists": [409, "another blob is stored under this name"],
  "precondition-failed": [412, "the blob has been replaced"],
  "checksum-mismatch": [400, "the bytes do not have the expected SHA-256"],
  "truncated": [400, "the body ended before its announced length"],
  "too-large": [413, "too large"],
  "out-of-range": [416, "the requested range is outside of the blob"],
  "quota-exceeded": [507, "a quota would be exceeded"],
  "no-space": [507, "no space left in the store"],
  "denied": [403, "denied"],
  "invalid": [400, "invalid"],
  "unsupported": [501, "unsupported"],
  "unavailable": [503, "unavailable"],
  "busy": [503, "busy"],
  "timed-out": [504, "timed out"],
  "internal": [500, "internal error"],
  // Status and message are the plugin's own.
  "refused": [500, "refused"],
};

export class Failure extends Error {
  constructor(tag, detail) {
    const known = MESSAGES[tag];
    if (known === undefined) {
      throw new TypeError(`unknown failure ${JSON.stringify(tag)}`);
    }
    super(inWords(tag, detail, known[1]));
    this.name = "Failure";
    this.tag = tag;
    this.status = detail?.status ?? known[0];
    this.code = detail?.code ?? "";
    this.detail = detail;
  }

  static refused(status, code, message, { retryAfter } = {}) {
    return new Failure("refused", { status, code, message, retryAfter });
  }

  static notFound() { return new Failure("not-found"); }
  static alreadyExists() { return new Failure("already-exists"); }
  static preconditionFailed() { return new Failure("precondition-failed"); }
  static tooLarge(limit) { return new Failure("too-large", limit); }
  static denied(why) { return new Failure("denied", why); }
  static invalid(why) { return new Failure("invalid", why); }
  static unsupported(what) { return new Failure("unsupported", what); }
  static unavailable(what) { return new Failure("unavailable", what); }
  static busy(what) { return new Failure("busy", what); }
}

function inWords(tag, detail, known) {
  if (tag === "checksum-mismatch") {
    return typeof detail === "string" ? `${known}, but ${detail}` : known;
  }
  return typeof detail === "string" ? detail : detail?.message ?? known;
}

/** Calls the host. A failure that it throws as a variant becomes a `Failure`. */
export function ask(call) {
  try {
    return call();
  } catch (thrown) {
    const variant = thrown?.payload ?? thrown;
    if (typeof variant?.tag === "string" && variant.tag in MESSAGES) {
      throw new Failure(variant.tag, variant.val ?? undefined);
    }
    throw thrown;
  }
}

/** What the host gets: a `Failure` as it is, any other exception as a bug, with its stack. */
export function toVariant(error) {
  if (!(error instanceof Failure)) {
    return { tag: "internal", val: describeError(error) };
  }
  const { tag, detail } = error;
  switch (tag) {
    case "refused":
      return { tag, val: { ...detail, retryAfter: detail.retryAfter ?? null } };
    case "checksum-mismatch":
      return { tag, val: detail ?? null };
    default:
      return detail === undefined ? { tag } : { tag, val: detail };
  }
}

/** The headers that HTTP has for a failure, whatever form a surface gives it. */
export function refusalHeaders({ tag, detail }) {
  if (tag === "out-of-range") {
    return [["content-range", `bytes */${detail}`]];
  }
  // What is unavailable comes back by itself.
  const after = tag === "unavailable" ? 5 : detail?.retryAfter;
  return after === undefined || after === null ? [] : [["retry-after", String(after)]];
}

export function describeError(error) {
  if (!(error instanceof Error)) {
    return `thrown: ${String(error)}`;
  }
  const places = String(error.stack ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
  return [`${error.name}: ${error.message}`, ...places].join(" / ");
}
