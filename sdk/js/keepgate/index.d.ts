// Types and documentation of the Keepgate SDK for JavaScript; `index.js` says what it is.

/** Pairs of name and value: an object, or a list in which a name may occur more than once. */
export type Pairs = Iterable<readonly [string, unknown]> | Record<string, unknown>;

/** Why a call failed. Each tag has one HTTP status, with which the host replies if a
 * failure leaves `handle`. */
export type FailureTag =
  /** 404 */
  | "not-found"
  /** 409: another blob is stored under this name */
  | "already-exists"
  /** 412: the blob has been replaced */
  | "precondition-failed"
  /** 400: the bytes do not have the expected SHA-256; `detail` is the one that they have,
   * if it is known */
  | "checksum-mismatch"
  /** 400: the sender stopped before the announced length */
  | "truncated"
  /** 413; `detail` is the limit in bytes */
  | "too-large"
  /** 416; `detail` is the blob's size in bytes */
  | "out-of-range"
  /** 507: a quota that the operator set would be exceeded */
  | "quota-exceeded"
  /** 507: the store is full */
  | "no-space"
  /** 403: a policy of the mount forbids it */
  | "denied"
  /** 400: an argument is invalid */
  | "invalid"
  /** 501: the store or the host cannot do this at all */
  | "unsupported"
  /** 503: a system behind the gateway does not answer */
  | "unavailable"
  /** 503: too much is in progress already */
  | "busy"
  /** 504, or 408 if the client did not send */
  | "timed-out"
  /** 500: a bug or a broken disk; the text goes to the operator's log only */
  | "internal"
  /** a refusal with a status of the plugin's own: `Failure.refused` */
  | "refused";

/** The arguments of `Failure.refused`. */
export interface Refusal {
  status: number;
  code: string;
  message: string;
  retryAfter?: number;
}

/** What the host throws, and what a plugin throws to refuse a request. Any other exception that leaves
 * `handle` is a bug: the client gets a 500, and the operator's log the message with its stack.
 *
 *     throw Failure.denied("archives of others");
 */
export class Failure extends Error {
  constructor(tag: FailureTag, detail?: string | number | Refusal);
  readonly tag: FailureTag;
  /** The HTTP status that it becomes. */
  readonly status: number;
  /** The code of `Failure.refused`; empty for all others. */
  readonly code: string;
  /** A text for the client, a number of bytes, or the arguments of `Failure.refused`. */
  readonly detail: string | number | Refusal | undefined;
  /** A refusal that no other tag describes. A job that throws it is not tried again if the status is below
   * 500.
   * @param status 400 to 599
   * @param code for programs, such as `size_conflict`; empty if the surface has none
   * @param message for the client
   * @param options.retryAfter seconds after which a client should try again */
  static refused(
    status: number,
    code: string,
    message: string,
    options?: { retryAfter?: number },
  ): Failure;
  static notFound(): Failure;
  static alreadyExists(): Failure;
  static preconditionFailed(): Failure;
  /** @param limit in bytes */
  static tooLarge(limit: number): Failure;
  static denied(why: string): Failure;
  static invalid(why: string): Failure;
  static unsupported(what: string): Failure;
  static unavailable(what: string): Failure;
  static busy(what: string): Failure;
}

/** Bytes held by the host: of a request, a blob, a pipe. They can be used once: to read them, or to
 * hand them on to `Store.put`, a pipe or a `Reply`. Handing on costs nothing. */
export class Body implements Iterable<Uint8Array> {
  private constructor();
  /** A body with bytes that the plugin holds. Text is encoded as UTF-8. */
  static from(bytes: Uint8Array | string): Body;
  /** In bytes; null if it is not known before reading. */
  readonly length: number | null;
  /** The next chunk, of at most `max` bytes and never empty; null at the end. */
  read(max?: number): Uint8Array | null;
  /** All chunks: `for (const chunk of body)`. */
  [Symbol.iterator](): Iterator<Uint8Array>;
  /** All bytes. Throws `too-large` over the limit, 1 MiB by default. */
  bytes(limit?: number): Uint8Array;
  /** The whole body as text; throws `invalid` if it is not UTF-8. */
  text(limit?: number): string;
  /** The whole body as JSON; throws `invalid` if it is not JSON. */
  json(limit?: number): any;
}

/** Pairs of name and value, in order; a name may occur more than once. */
export class Fields implements Iterable<[string, string]> {
  constructor(pairs?: [string, string][]);
  /** The first value of this name, or null. */
  get(name: string): string | null;
  /** All values of this name. */
  getAll(name: string): string[];
  has(name: string): boolean;
  [Symbol.iterator](): Iterator<[string, string]>;
}

/** What a store knows about a blob. */
export interface Info {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly modified: Date;
  /** Changes whenever the blob does; without quotes. */
  readonly etag: string;
  /** What `put` was given. */
  readonly contentType: string | null;
  readonly metadata: Fields;
  readonly tags: Fields;
}

/** A blob that `put`, `concat` or `rename` stored, in its current state. */
export interface Stored extends Info {
  /** What this call changed: `unchanged` if the same bytes were there, so that nothing was
   * written. */
  readonly change: "created" | "replaced" | "unchanged";
  /** Bytes of the blob that was replaced; null if there was none. */
  readonly replaced: number | null;
}

/** An entry of a list. */
export interface Entry {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly modified: Date;
  /** As in `Info`; empty for a folder. */
  readonly etag: string;
  /** Whether it is a folder, which only lists that are not recursive contain. */
  readonly folder: boolean;
}

/** Which bytes of a blob: from an offset on, so many of them or up to the end; or the last so many. */
export type Part = { offset?: number; length?: number } | { suffix: number };

/** A blob, or some of its bytes, to be joined with others. */
export type Piece = string | ({ key: string } & Part);

/** A blob, or a part of one, that can be read or handed on. */
export interface Download {
  readonly info: Info;
  /** The offset of the body in the blob. */
  readonly offset: number;
  /** How many bytes it has. */
  readonly length: number;
  readonly body: Body;
}

export interface PutOptions {
  /** What must hold of the key; `always` by default. `absent-or-identical` succeeds if
   * the same bytes are there; `matches` wants the blob there to have this etag. */
  condition?: "always" | "absent" | "absent-or-identical" | { matches: string };
  /** The SHA-256 that the bytes must have, in lower-case hexadecimal digits. */
  sha256?: string | null;
  contentType?: string | null;
  /** Stored with the blob: visible ASCII, names in lower case, at most 1792 bytes in total. */
  metadata?: Pairs;
  /** At most ten. */
  tags?: Pairs;
}

/** A store that the operator granted to the mount. Keys are paths without empty or dotted segments,
 * 1024 bytes at most; others throw `invalid`. */
export class Store {
  private constructor();
  /** The store that the mount's configuration has under this name; `main` without one. */
  static open(name?: string): Store;
  /** Throws `not-found`. */
  head(key: string): Info;
  /** The same for many blobs, at most 1000, in the order of their keys; `null` for a blob that is not there. */
  heads(keys: Iterable<string>): (Info | null)[];
  /** Throws `not-found`, and `out-of-range` if no byte of the part is in the blob. */
  get(key: string, part?: Part | null): Download;
  /** Stores a blob: durable when it returns, all of it or nothing. Throws `already-exists`,
   * `precondition-failed`, `checksum-mismatch`, `truncated`, `quota-exceeded`, `no-space`, `denied`. A blob that
   * `expires` is not there from then on, and no condition minds it; the host removes it within an hour or so, and
   * listings may name it until then. Another blob under the key revokes that. */
  put(key: string, data: Body | Uint8Array | string, options?: PutOptions & { expires?: Date | null }): Stored;
  /** Stores as `put` does, except that what came of a body that broke off, or whose sender fell silent, is kept, without
   * a look at its SHA-256. The host goes on with it when the client is gone, and with it this call. */
  receive(key: string, data: Body | Uint8Array | string, options?: PutOptions): { stored: Stored; complete: boolean };
  /** Joins pieces of blobs into one, in order, with the same guarantees as `put`; the blobs stay. */
  concat(key: string, pieces: Piece[], options?: PutOptions): Stored;
  /** Moves a blob to another key, with everything that is kept with it: on a disk in one step, without copying. The
   * condition is about the new key. Throws `not-found` if there is no blob, `already-exists`, `precondition-failed`,
   * `quota-exceeded`, `denied`. */
  rename(key: string, to: string, options?: { condition?: "always" | "absent" | { matches: string } }): Stored;
  /** The size in bytes of the blob that this call removed; null if there was none. With
   * `matches` it removes the blob of that etag only, and throws `precondition-failed` if another or none
   * is there. */
  delete(key: string, options?: { matches?: string }): number | null;
  /** Blobs below a folder, ascending by key; the top by default. With `after`, those behind
   * that key, which is a folder's with `/` at its end. Throws `not-found` if there is no such folder;
   * the top is always there, even before anything was stored. */
  list(
    folder?: string,
    options?: { recursive?: boolean; after?: string },
  ): Generator<Entry, void>;
  /** Creates folders that may stay empty; `put` does not need them. */
  prepare(folders: string[]): void;
}

/** A user, as authenticated by the host. */
export interface Principal {
  readonly name: string;
  /** How the user was authenticated: `htpasswd`, `proxy` or `certificate`. */
  readonly method: string;
  readonly claims: Fields;
}

/** A request below the plugin's mount. */
export interface Request {
  readonly method: string;
  /** The URL of the mount for this client, without a slash at its end; empty if it is not known.
   * Unless the operator set it, the host in it is what the client claims. */
  readonly base: string;
  /** Path and query as the client sent them, from the root of the server. */
  readonly target: string;
  /** The IP address of the client, or of the proxy in front; null for a Unix socket. */
  readonly address: string | null;
  /** The identifier of the request in logs. */
  readonly id: string;
  /** Percent-decoded segments; they may be empty, dots, or hold a slash. Stores refuse such keys. */
  readonly path: string[];
  /** Whether the path ended with `/`. */
  readonly trailingSlash: boolean;
  readonly query: Fields;
  /** Headers, with names in lower case and without the credentials that the host has checked. */
  readonly headers: Fields;
  /** The user, as authenticated by the host; null if the mount admits everybody. */
  readonly principal: Principal | null;
  /** The name of the authenticated user; empty if the mount admits everybody. */
  readonly user: string;
  /** Where a path below the mount is for this client: for `Location`, `Link` and bodies. An empty last
   * segment makes a slash at the end. Where `base` is empty it is relative to this request's path. */
  url(...segments: string[]): string;
  /** The body. Pass it on instead of reading it, if possible. */
  readonly body: Body;
}

/** A plugin's reply. */
export class Reply {
  /** @param content nothing, bytes, text, or a body of the host's */
  constructor(status?: number, headers?: Pairs, content?: Body | Uint8Array | string | null);
  /** An empty reply, by default a 204. */
  static empty(status?: number, headers?: Pairs): Reply;
  static text(text: string, options?: { status?: number; headers?: Pairs }): Reply;
  static json(value: unknown, options?: { status?: number; headers?: Pairs }): Reply;
  /** A 405 that lists the allowed methods. */
  static methodNotAllowed(...allowed: string[]): Reply;
  /** Sends the head at once, and each chunk when it is made: give a generator. If it throws, the
   * client's connection is cut, so that it sees a broken reply and not a short one. */
  static stream(
    chunks: Iterable<Uint8Array | string>,
    options?: { status?: number; headers?: Pairs },
  ): Reply;
  /** Sends status and headers as an interim response, before the reply itself. The status is 102 to 199. Clients of
   * HTTP/1.0 and HTTP/2 are sent none. */
  sendInterim(): void;
  /** The answer to GET or HEAD of a blob, with one range and `If-None-Match`. The host sends the bytes. */
  static blob(store: Store, key: string, request: Request, headers?: Pairs): Reply;
}

/** The time. `Date.now()` and `new Date()` return the host's time as well. */
export function now(): Date;
/** Unpredictable bytes, at most 65536. `Math.random()` uses them. */
export function random(length: number): Uint8Array;
/** Adds to a counter that the description declares. `labels` has the values of its labels, in that order. */
export function count(metric: string, labels?: unknown[], by?: number): void;
/** Sets a gauge that the description declares. The value stays until it is set again or the gateway ends. */
export function setGauge(metric: string, labels: unknown[], value: number): void;

/** The operator's log. `console` goes there as well. */
export const log: Record<
  "trace" | "debug" | "info" | "warn" | "error",
  (message: string, fields?: Pairs) => void
>;

/** Transformations that the host applies to bodies while they stream. No byte enters the plugin. Errors in the bytes
 * are thrown when the result is read, for example by `Store.put`. */
export const pipes: {
  /** @param level 0 (stored) to 9 (smallest) */
  gzip(data: Body | Uint8Array | string, level?: number): Body;
  gunzip(data: Body | Uint8Array | string): Body;
  /** An archive of files, in order, whose length is known. `size` is in bytes. */
  tar(entries: Iterable<{
    path: string; size: number; data: Body | Uint8Array | string; mode?: number; modified?: Date;
  }>): Body;
  /** Reads a body to its end into a temporary file of the host, to know its size and hash. */
  spool(data: Body | Uint8Array | string): { size: number; sha256: string; body: Body };
  /** The same bytes, which must have this SHA-256 in lower-case hex: otherwise reading throws `checksum-mismatch` before
   * the end, so that a client sees that its download is not whole. */
  verified(data: Body | Uint8Array | string, sha256: string): Body;
  /** As `verified`, with what a `checksum` has computed. */
  checked(data: Body | Uint8Array | string, xxh3: string): Body;
  /** Computes the XXH3 of a body while it is read, with 128 bits. Pass on `body`; `xxh3()` is null until it has been read,
   * then lower-case hex. It takes a twentieth of the time of a SHA-256 and finds damage as well, but not what somebody
   * changed on purpose. */
  checksum(data: Body | Uint8Array | string): { body: Body; xxh3(): string | null };
  /** The same bytes. Reading throws `too-large` as soon as there are more than `max`. */
  limit(data: Body | Uint8Array | string, max: number): Body;
  /** The same bytes, with a known length. Reading throws `too-large` as soon as there are more, and `truncated` at the end
   * if there are fewer. */
  exactly(data: Body | Uint8Array | string, length: number): Body;
  /** The bytes of at most 1000 bodies, one after another. */
  join(bodies: Iterable<Body | Uint8Array | string>): Body;
  /** Counts and hashes a body while it is read. Pass on `body`; `sum()` is null until it has been read. */
  meter(data: Body | Uint8Array | string): {
    body: Body;
    sum(): { size: number; sha256: string } | null;
  };
};

/** etcd clusters that the operator has configured and granted to the mount. */
export const etcd: {
  clusters(): string[];
  /** Starts a snapshot. Throws `unavailable`, which names each endpoint and its error. */
  takeSnapshot(cluster: string, options?: { except?: string[] }): {
    /** Identifiers of cluster and member are rounded: they have more digits than a number. */
    facts: {
      endpoint: string; version: string; clusterId: number; memberId: number;
      revision: number; keys: number | null; size: number;
    };
    /** Whether the member could not confirm with a majority of its cluster that its data is current. The host takes such
     * snapshots only where the operator has set `allow_stale`; mark what you make of them. */
    stale: boolean;
    /** The bytes. They can be taken once. */
    body(): Body;
    /** Of the database, lower-case hex; null until the bytes were read and verified. */
    sha256(): string | null;
  };
};

/** Does something while it has the turn of this name, of 1 to 256 bytes: a named lock of the mount within one gateway. Waits
 * for it at most `wait` milliseconds, by default a minute, and then throws `busy`. */
export function withTurn<T>(name: string, action: () => T, options?: { wait?: number }): T;

/** A subscription to a topic, until it is closed, and at the latest until the call ends. */
export interface Subscription {
  /**
   * Waits for the next message, at most `wait` milliseconds, by default 20 seconds. `missed` if older messages were dropped,
   * because more than 64, or more than 1 MiB in all, were waiting: read again what exists. `nothing` if none came in time.
   * `closed` if none will come any more, because the gateway shuts down or a reload has replaced the mount: end the reply.
   */
  next(options?: { wait?: number }): Uint8Array | "missed" | "nothing" | "closed";
  close(): void;
}

/** News for whoever waits for it, within a mount and within one gateway. Topics have 1 to 256 bytes. */
export const topics: {
  /**
   * Hands a message of at most 64 KiB to every subscription that is open in this gateway, and returns how many there are. It
   * waits for none of them, and the message is kept nowhere else.
   */
  publish(topic: string, message: Uint8Array | string): number;
  /**
   * Receives what is published from now on. Subscribe first, then read what exists, then wait. Throws `busy` if half as many
   * subscriptions of the mount are open as it allows calls at the same time.
   */
  subscribe(topic: string): Subscription;
};

/** Keys that the operator has granted to the mount, to work with and not to see: they stay in the host. A key or kind of
 * key that is not granted throws `denied`; more than 1 MiB, or 1 KiB of context, `too-large`. */
export const secrets: {
  /** The names of the keys for `hmacSha256`, in order. */
  keys(): string[];
  hmacSha256(key: string, message: Uint8Array | string): Uint8Array;
  /** Use it instead of comparing: it takes the same time however much of the MAC is right. */
  verifyHmacSha256(key: string, message: Uint8Array | string, mac: Uint8Array): boolean;
  /** Encrypts and authenticates, for `open` to read with the same context, which says what the plaintext belongs to. */
  seal(plaintext: Uint8Array | string, context: Uint8Array | string): Uint8Array;
  /** Throws `invalid` if it was not sealed by this mount for this context, or was changed; which one it does not say. */
  open(sealed: Uint8Array, context: Uint8Array | string): Uint8Array;
};

/** A value under a key of the mount's table. */
export interface TableRecord {
  readonly key: string;
  readonly value: Uint8Array;
  /** The revision of the commit that wrote it. */
  readonly version: bigint;
}

/** A small ordered table of the mount: records that change together or not at all. */
export const records: {
  get(key: string): TableRecord | null;
  /** At most 1000 keys, all as of one moment; `null` for those that are not there. */
  getAll(keys: Iterable<string>): (TableRecord | null)[];
  /** The first records whose keys begin with this; at most `max`, and at most 1000. */
  page(prefix: string, options?: { after?: string; descending?: boolean }, max?: number): {
    records: TableRecord[];
    more: boolean;
  };
  /** All of them, read page by page, so that they need not be as of one moment. */
  scan(prefix: string, options?: { after?: string; descending?: boolean }): Iterable<TableRecord>;
  /**
   * Makes all changes if all comparisons hold, durably, and returns the revision. Throws `precondition-failed` if one does
   * not hold, `invalid` for more than 128 comparisons or changes or a MiB, and `quota-exceeded` or `no-space`: nothing was
   * changed then. After `unavailable` it may have been made.
   */
  commit(commit: {
    absent?: Iterable<string>;
    present?: Iterable<string>;
    /** Records as they were read. */
    unchanged?: Iterable<TableRecord>;
    put?: Record<string, Uint8Array | string>;
    delete?: Iterable<string>;
  }): bigint;
};

/** HTTP systems that the operator has configured and granted to the mount. */
export const upstreams: {
  names(): string[];
  /**
   * Throws `denied` or `invalid` if the operator does not allow a request, without sending it. What a host's name leads
   * to is not known yet, so `send` can still throw `denied`.
   */
  check(upstream: string, target: string, options?: { method?: string }): void;
  /**
   * Sends a request and waits for the head of the response; any status is a success. `target` is path and query,
   * percent-encoded; for an upstream that is a list of addresses, the whole URL. Throws `denied` if the mount does not
   * grant the upstream or the operator does not allow the request, `unavailable` if the upstream does not answer, and
   * `busy` if too many requests are under way.
   */
  send(upstream: string, target: string, options?: {
    method?: string;
    headers?: Record<string, string> | Iterable<[string, string]>;
    /** The length of a body is announced if it is known. */
    body?: Body | Uint8Array | string;
    /** A value that is sent as JSON, instead of a body. */
    json?: any;
    /** Milliseconds from the last byte of the request to the head of the response. */
    answerWithin?: number;
    /** Milliseconds without a byte of a body. */
    silentFor?: number;
    /** The longest body of the response in bytes: reading more throws `too-large`. */
    maxBody?: number;
    /** The resource does not change, so the host can read on if the response breaks off. */
    resume?: boolean;
  }): {
    status: number;
    /** Names are in lower case. */
    headers: Fields;
    /** The bytes. They can be taken once. */
    body(): Body;
  };
};

export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** Work that outlives a request. */
export interface Job {
  readonly id: string;
  readonly kind: string;
  /** The key. Jobs of the same kind and key run one after another. */
  readonly key: string;
  /** What started it. */
  readonly origin: string;
  /** The user whose request started it, and whose rules it follows. */
  readonly principal: Principal | null;
  readonly input: Uint8Array;
  readonly state: JobState;
  /** The number of the attempt, from 1; 0 before the first. */
  readonly attempt: number;
  /** The maximum number of attempts. */
  readonly attempts: number;
  /** No attempt begins before this time. */
  readonly next: Date | null;
  readonly progress: { done: number; total: number | null; phase: string };
  readonly created: Date;
  readonly started: Date | null;
  readonly ended: Date | null;
  /** Why the job failed or waits. */
  readonly message: string;
  readonly output: Uint8Array;
}

/** How a job is started. */
export interface JobOptions {
  key?: string;
  attempts?: number;
  /** `join-queued` joins only a job that has not begun its first attempt. */
  whenBusy?: "queue" | "join" | "join-queued" | "refuse";
  notBefore?: Date | null;
  /** The pause before the second attempt in milliseconds. It doubles with each further attempt. */
  backoff?: number | null;
  /** The kind of a job that starts when this one has ended, whether or not it succeeded. Its input is this
   * job's id. */
  finally?: string | null;
}

/** The mount's jobs. `jobs` of `definePlugin` runs them. */
export const jobs: {
  /** Starts a job; durable when it returns its id. */
  start(kind: string, input: Uint8Array | string, options?: JobOptions): string;
  /** The same body. If its bytes are not what `pipes.verified` or `pipes.checked` expects, the host starts this job when
   * it notices, usually after the call. */
  startOnMismatch(
    data: Body | Uint8Array | string, kind: string, input: Uint8Array | string, options?: JobOptions,
  ): Body;
  get(id: string): Job;
  /** Waits until a job leaves a state, or this many milliseconds have passed. */
  wait(id: string, leaves: JobState, milliseconds: number): Job;
  /** Newest first. */
  list(kind: string, max?: number): Job[];
  /** Returns false if it has ended already. */
  cancel(id: string): boolean;
  /** Cancels a job that has not begun. Returns false if it has. */
  withdraw(id: string): boolean;
  /** Reports the progress of the running job. */
  report(progress: { done: number; total?: number | null; phase?: string }): void;
};

/** An HTTP API for jobs: start one and wait, or reply with 202 at once; show its status; cancel it. */
export const jobApi: {
  /** Whether the client asks not to wait for the result: `Prefer: respond-async` (RFC 7240). */
  prefersAsync(request: Request): boolean;
  /** The reply 202 for a job that was started. `path` is the path of the job below the mount. */
  accepted(request: Request, path: string[], body: unknown): Reply;
  /** Waits until a job begins, at most `turn` milliseconds, and then until it ends, however long that takes. A job
   * that has not begun by then is withdrawn: null. */
  wait(id: string, turn: number): Job | null;
  /** A job of this kind that fits. Throws `not-found` for all others, so that one part of a surface does not show
   * the jobs of another. */
  find(id: string, kind: string, fits?: (job: Job) => boolean): Job;
  /** The document about a job. Once the job has ended, `result` is its output, or what `failed` makes of the reason
   * if it has none that is JSON. */
  status(job: Job, failed: (reason: string) => unknown): Reply;
  /** Cancels a job and replies with 204. Throws a 409 if it has ended. */
  cancel(job: Job): Reply;
  /** Why a job failed, was cancelled, or waits for another attempt. */
  reason(job: Job): string;
};

/** A retention policy: an item is kept if one of these rules keeps it. */
export interface RetentionPolicy {
  /** Keeps this many of the newest. */
  last?: number;
  /** Keeps all that are not older than this many milliseconds. */
  within?: number;
  /** Keeps the newest of each day (UTC), for this many of the last days that have one. */
  daily?: number;
  /** The same for ISO weeks, Monday to Sunday. */
  weekly?: number;
  /** The same for months. */
  monthly?: number;
  /** The same for years. */
  yearly?: number;
}

/** The items that no rule keeps, oldest first. `items` are ordered by time, the oldest first. Those from the future
 * stay, and no rule counts them. Of the others the newest one always stays, and so does each for which `isSpared` is
 * true. `time` is a member of this name unless it is given. */
export function expired<Item>(items: Item[], policy: RetentionPolicy, options?: {
  now?: Date;
  time?: (item: Item) => Date;
  isSpared?: (item: Item) => boolean;
}): Item[];

/** The items whose time is more than five minutes ahead of `now`: a clock was wrong when they were made. No rule of
 * `expired` removes them before their time has come, so tell people how many there are. */
export function fromTheFuture<Item>(items: Item[], options?: {
  now?: Date;
  time?: (item: Item) => Date;
}): Item[];

/** The items in the order of a list whose last entry is taken for the newest: oldest first, those from the future before
 * all others, because nobody knows how old they are. Items of one time keep their order. */
export function newestLast<Item>(items: Item[], options?: {
  now?: Date;
  time?: (item: Item) => Date;
}): Item[];

/** Milliseconds of a duration in settings, as in `7d` or `1m30s`; longer than zero. Throws an `Error`. */
export function parseDuration(text: string): number;

/** The page of a list that a request asks for: `?limit=100&after=KEY`. Throws `invalid` if `limit` is not a number
 * from 1 to `most`. */
export function page(
  request: Request, standard: number, most: number,
): { limit: number; after: string | undefined };
/** As many items as the page has, and behind what the next page begins; null if this one is the last. */
export function fillPage<Item>(
  page: { limit: number }, items: Iterable<Item>, place: (item: Item) => string,
): { items: Item[]; next: string | null };
/** The header `Link` to the next page (RFC 8288); nothing for the last. */
export function linkHeaders(request: Request, next: string | null): Record<string, string>;

/** A plugin's description of itself. */
export interface Description {
  name: string;
  version: string;
  /** A summary for operators, on one line. */
  summary?: string;
  /** The path at which it is mounted unless the operator configures another one; `/NAME` by default. */
  defaultMount?: string;
  /** Names of the stores that it opens; a mount must grant each. */
  stores?: string[];
  /** Names of the clusters that it takes snapshots of; a mount must grant each, and for `*` at least one. */
  clusters?: string[];
  /** Counters for `count`, which is the default kind: Prometheus names that end in
   * `_total`. Gauges for `setGauge`. */
  metrics?: { name: string; kind?: "counter" | "gauge"; help: string; labels?: string[] }[];
}

/** Runs the jobs of one kind. */
export interface JobRunner<Settings> {
  /** The key of a job that a schedule or an operator starts. Throws an `Error` that says what is wrong
   * with the input. */
  check?(input: Uint8Array, settings: Settings): string;
  /** Runs one attempt to its end. The returned value is kept with the job. */
  run(job: Job, settings: Settings): Uint8Array | string | void;
}

export interface Plugin<Settings> {
  describe: Description;
  /** Validates a mount's settings. Throws an `Error` that says what is wrong. */
  checkSettings?(settings: Settings): void;
  /** Handles a request. Functions are not async: calls to the host block. */
  handle(request: Request, settings: Settings): Reply;
  /** The reply to a failure in this surface's own form. Without it, or if it returns nothing, the host replies
   * with the failure's status and message, in the form that `refusals.json` beside the sources declares, or in
   * plain text. It uses that form for what it refuses itself, too. `Content-Range` and `Retry-After` are added.
   *
   *     refuse: ({ status, code, message }) => Reply.json({ error: code, message }, { status }),
   */
  refuse?(failure: Failure): Reply | void;
  /** Runners, by kind of job. */
  jobs?: Record<string, JobRunner<Settings>>;
}

/** The component's exports, under the names that the contract has for them:
 *
 *     export const { guest, jobRunner } = definePlugin({ describe, handle });
 */
export function definePlugin<Settings = any>(
  plugin: Plugin<Settings>,
): { guest: object; jobRunner: object };

declare global {
  /** UTF-8 only. */
  class TextEncoder {
    encode(text?: string): Uint8Array;
  }
  /** UTF-8 only. */
  class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean });
    decode(bytes?: Uint8Array | ArrayBuffer): string;
  }
  /** Writes to the operator's log. */
  var console: Record<"debug" | "log" | "info" | "warn" | "error", (...values: unknown[]) => void>;
}
