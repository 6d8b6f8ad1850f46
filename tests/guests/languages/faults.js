// Faults of plugins in JavaScript, and what the SDK offers beyond what the template uses. Each path is one of them;
// `faults.py` has the same ones, and `tests/e2e/languages` requests them.

import {
  count, definePlugin, Failure, jobs, log, now, pipes, random, Reply, secrets, setGauge, Store,
  topics, withTurn,
} from "./keepgate/index.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The job when it is over. */
function ended(id) {
  let job = jobs.get(id);
  while (["queued", "running"].includes(job.state)) {
    job = jobs.wait(id, job.state, 10_000);
  }
  return job;
}

const PATHS = {
  hello: () => Reply.text("hello"),
  bug: ({ principal }) => Reply.text(principal.nothing),
  thrown: () => {
    throw "a text";
  },
  nothing: () => undefined,
  failure: ({ query }) => {
    throw new Failure(query.get("tag"), query.get("detail") ?? undefined);
  },
  refused: ({ query }) => {
    const options = query.has("later") ? { retryAfter: Number(query.get("later")) } : undefined;
    throw Failure.refused(Number(query.get("status")), "some_code", "some reason", options);
  },
  flood: () => {
    const kept = [];
    for (;;) {
      kept.push(new Uint8Array(1 << 20).fill(1));
    }
  },
  loop: () => {
    for (;;);
  },
  recurse: () => {
    const deeper = () => deeper() + 1;
    return Reply.text(String(deeper()));
  },
  stream: () => Reply.stream(["one ", encoder.encode("two "), "three"]),
  "broken-stream": () => Reply.stream((function* () {
    yield "one ";
    throw new Error("in the middle");
  })()),
  text: ({ body }) => Reply.text(body.text()),
  json: ({ body }) => Reply.json(body.json()),
  length: ({ body }) => {
    let length = 0;
    for (const chunk of body) {
      length += chunk.length;
    }
    return Reply.text(String(length));
  },
  twice: ({ body }) => {
    const store = Store.open();
    store.put("once", body);
    store.put("twice", body);
    return Reply.empty();
  },
  left: ({ method, body }) => {
    // Handles that the plugin does not give back: the SDK does.
    Store.open().list("", { recursive: false }).next();
    return Reply.text(`${method} ${body.length}`);
  },
  packed: ({ body }) => {
    const store = Store.open();
    const { body: metered, sum } = pipes.meter(body);
    const { size } = store.put("packed.gz", pipes.gzip(metered), { metadata: { origin: "test" } });
    const found = store.get("packed.gz", { suffix: 4 });
    const unpacked = pipes.spool(pipes.gunzip(store.get("packed.gz").body));
    return Reply.json({
      size, sum: sum(), unpacked: unpacked.sha256, tail: [...found.body.bytes()], offset: found.offset,
      origin: store.head("packed.gz").metadata.get("origin"),
    });
  },
  held: ({ body }) => {
    const bytes = body.bytes();
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const attempt = (act) => {
      try {
        return act();
      } catch ({ tag }) {
        return tag;
      }
    };
    const read = (given) => attempt(() => decoder.decode(given.bytes()));
    return withTurn("held", () => {
      Reply.empty(104, { location: "/later" }).sendInterim();
      const looked = jobs.startOnMismatch(pipes.verified("abd", abc), "count", "1234", { key: "mismatch" });
      return Reply.json({
        verified: [read(pipes.verified(bytes, abc)), read(looked)],
        checked: (() => {
          const { body, xxh3 } = pipes.checksum(bytes);
          const unknown = xxh3();
          const passed = read(body);
          return [unknown, passed, read(pipes.checked(bytes, xxh3())), read(pipes.checked("abd", xxh3()))];
        })(),
        limit: [read(pipes.limit(bytes, 3)), read(pipes.limit(bytes, 2))],
        exactly: [read(pipes.exactly(bytes, 3)), read(pipes.exactly(bytes, 2)), read(pipes.exactly(bytes, 4))],
        joined: read(pipes.join([bytes, "", "d"])),
        turn: [attempt(() => withTurn("held", () => "taken", { wait: 1 })), withTurn("other", () => "free")],
        interim: attempt(() => Reply.empty(200).sendInterim()),
      });
    });
  },
  news: () => {
    const attempt = (act) => {
      try {
        return act();
      } catch ({ tag }) {
        return tag;
      }
    };
    const news = topics.subscribe("news");
    const next = (wait) => {
      const came = news.next({ wait });
      return came instanceof Uint8Array ? [decoder.decode(came)] : came;
    };
    const told = [topics.publish("other", "x"), topics.publish("news", "one"), topics.publish("news", new Uint8Array([0x32]))];
    const came = [next(1000), next(0), next(1)];
    for (let number = 0; number < 65; number++) {
      topics.publish("news", String(number));
    }
    const slow = [next(0), next(0)];
    news.close();
    return Reply.json({
      told, came, slow, closed: topics.publish("news", "x"),
      failures: [attempt(() => topics.subscribe("")), attempt(() => topics.publish("news", "x".repeat(65537)))],
    });
  },
  looked: () => Reply.json(jobs.list("count").filter(({ key }) => key === "mismatch").map(({ state }) => state)),
  listed: () => {
    const store = Store.open();
    store.put("b/two", "22");
    store.put("a", "1");
    const { etag } = store.head("a");
    store.put("a", "111", { condition: { matches: etag } });
    const names = (options) => [...store.list("", options)].map(({ key, size }) => [key, size]);
    return Reply.json({ all: names(), top: names({ recursive: false }), gone: store.delete("a") });
  },
  changed: () => {
    const store = Store.open();
    const put = (key, data, options) => {
      const { change, replaced, size } = store.put(key, data, options);
      return [change, replaced, size];
    };
    const changes = [put("f/a", "12345"), put("f/a", "123"), put("f/a", "123", { condition: "absent-or-identical" })];
    put("f/b/c", "abcdef");
    const pieces = ["f/a", { key: "f/b/c", offset: 1, length: 2 }, { key: "f/b/c", suffix: 1 }];
    const joined = store.concat("f/d", pieces, { contentType: "text/plain", tags: { a: "b" } });
    const text = store.get("f/d").body.text();
    const entries = [...store.list("f", { recursive: false })];
    const after = (place) => [...store.list("f", { recursive: false, after: place })].map(({ key }) => key);
    const attempt = (act) => {
      try {
        return act();
      } catch ({ tag, message }) {
        return [tag, message];
      }
    };
    const said = {
      changes, joined: [joined.change, joined.size, joined.contentType, joined.tags.get("a")], text,
      etags: entries.map(({ key, etag }) => etag === (key === "f/b" ? "" : store.head(key).etag)),
      after: [after("f/a"), after("f/b/"), after("f/d")],
      mismatch: attempt(() => store.put("f/e", "x", { sha256: "0".repeat(64) })),
      stale: attempt(() => store.delete("f/a", { matches: "another" })),
      removed: store.delete("f/a", { matches: entries[0].etag }),
      tagged: attempt(() => store.put("f/e", "x", { metadata: { Upper: "x" } }))[0],
    };
    const moved = store.rename("f/b/c", "f/g", { condition: "absent" });
    const { etag } = store.head("f/d");
    const over = store.rename("f/g", "f/d", { condition: { matches: etag } });
    said.moved = [moved.change, moved.key, moved.size, over.change, over.replaced];
    said.unmoved = attempt(() => store.rename("f/g", "f/h"))[0];
    const expires = new Date(now().getTime() + 3_600_000);
    const there = (key) => store.heads([key])[0] !== null;
    store.put("f/e", "x", { expires });
    said.expires = [there("f/e")];
    store.put("f/e", "x", { expires: now() });
    said.expires.push(there("f/e"), store.put("f/e", "x", { condition: "absent" }).change, store.delete("f/e"));
    store.delete("f/d");
    return Reply.json(said);
  },
  job: ({ body }) => {
    const id = jobs.start("count", body.bytes(), { key: "one" });
    const { state, output, origin } = ended(id);
    return Reply.json({ state, origin, output: decoder.decode(output) });
  },
  finally: () => {
    const notBefore = new Date(now().getTime() + 3000);
    const options = { key: "two", attempts: 3, whenBusy: "join-queued", notBefore };
    const id = jobs.start("count", "12", { ...options, backoff: 10, finally: "tidy" });
    const joined = jobs.start("count", "12", options);
    const waiting = jobs.get(id);
    const late = ended(id).started >= notBefore;
    const tidy = ended(jobs.list("tidy", 1)[0].id);
    return Reply.json({
      joined: joined === id,
      waiting: waiting.next >= notBefore,
      late,
      attempts: waiting.attempts,
      principal: waiting.principal?.name ?? null,
      tidied: decoder.decode(tidy.output) === id,
    });
  },
  place: (request) => {
    const { target, address, id } = request;
    return Reply.json([request.url("a b", "c"), target, address, id !== ""]);
  },
  secrets: ({ body }) => {
    const message = body.bytes();
    const attempt = (act) => {
      try {
        return act();
      } catch ({ tag }) {
        return tag;
      }
    };
    const mac = secrets.hmacSha256("hook", message);
    const sealed = secrets.seal(message, "context");
    return Reply.json({
      keys: secrets.keys(), mac: [...mac],
      verified: [secrets.verifyHmacSha256("hook", message, mac), secrets.verifyHmacSha256("hook", "other", mac)],
      opened: decoder.decode(secrets.open(sealed, "context")),
      sealed: sealed.length, differs: secrets.seal(message, "context").join() !== sealed.join(),
      failures: [
        attempt(() => secrets.hmacSha256("none", message)),
        attempt(() => secrets.open(sealed, "another")),
        attempt(() => secrets.seal(message, "c".repeat(1025))),
      ],
    });
  },
  chance: () => Reply.json([Math.random(), [...random(8)].join()]),
  clock: () => Reply.json([Date.now(), new Date().getTime(), now().getTime()]),
  said: () => {
    console.log("printed", { a: 1 });
    log.warn("logged", { b: 2 });
    count("faults_said_total", ["x"], 2);
    setGauge("faults_level", ["x"], 0.5);
    return Reply.empty();
  },
};

export const { guest, jobRunner } = definePlugin({
  describe: {
    name: "faults",
    version: "0.1.0",
    stores: ["main"],
    metrics: [
      { name: "faults_said_total", help: "Times that something was said.", labels: ["what"] },
      { name: "faults_level", kind: "gauge", help: "What was said last.", labels: ["what"] },
    ],
  },
  checkSettings({ bug }) {
    if (bug) {
      bug.nothing.at.all();
    }
  },
  handle(request) {
    const act = PATHS[request.path[0]];
    if (act === undefined) {
      throw Failure.notFound();
    }
    return act(request);
  },
  jobs: {
    count: {
      check: (input) => {
        if (input.length === 0) {
          throw new Error("expected an input, found none");
        }
        return "one";
      },
      run: ({ input }) => {
        jobs.report({ done: input.length, phase: "counting" });
        return `${input.length} bytes`;
      },
    },
    tidy: { run: ({ input }) => input },
  },
});
