// Run by `cargo test -p keepgate-sdk`: the modules of the JavaScript SDK that need no host.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { expired, fromTheFuture, newestLast, parseDuration } from "../js/keepgate/retention.js";
import { fillPage, linkHeaders, page } from "../js/keepgate/page.js";

for (const file of JSON.parse(readFileSync(new URL("retention.json", import.meta.url), "utf8"))) {
  const items = file.items.map((text, index) => ({ index, time: new Date(text) }));
  const policy = { ...file.policy };
  if (file.within_seconds !== null) {
    policy.within = file.within_seconds * 1000;
  }
  const isSpared = ({ index }) => file.spared.includes(index);
  const gone = expired(items, policy, { now: new Date(file.now), isSpared });
  assert.deepEqual(gone.map(({ index }) => index), file.expired);
}

const times = [
  "2026-03-01T12:05:01Z", "2026-02-01T00:00:00Z", "2030-01-01T00:00:00Z", "2026-03-01T12:05:00Z", "2026-01-01T00:00:00Z",
];
const options = { now: new Date("2026-03-01T12:00:00Z"), time: (text) => new Date(text) };
assert.deepEqual(fromTheFuture(times, options), [times[0], times[2]]);
assert.deepEqual(newestLast(times, options), [0, 2, 4, 1, 3].map((index) => times[index]));

for (const [text, seconds] of [["60s", 60], ["1m30s", 90], ["1h 30m", 5400], ["1.5s", 1.5], ["2min", 120], ["7days", 604800]]) {
  assert.equal(parseDuration(text), seconds * 1000, text);
}
for (const text of ["", "soon", "5", "0s", "-1s", "1 fortnight"]) {
  assert.throws(() => parseDuration(text), /is not a duration/, text);
}

const request = (query, path = ["files"]) => ({
  path, trailingSlash: false,
  query: Object.assign(Object.entries(query), { get: (name) => query[name] ?? null }),
  url: (...segments) => `http://localhost/${segments.join("/")}`,
});
assert.deepEqual(page(request({}), 3, 5), { limit: 3, after: undefined });
assert.deepEqual(page(request({ limit: "5", after: "a" }), 3, 5), { limit: 5, after: "a" });
for (const limit of ["0", "6", "-1", "many", ""]) {
  assert.throws(() => page(request({ limit }), 3, 5), { status: 400 }, limit);
}
const filled = fillPage({ limit: 2 }, ["a", "b & c", "d"], (name) => name);
assert.deepEqual(filled, { items: ["a", "b & c"], next: "b & c" });
const link = '<http://localhost/files?kind=x&after=b%20%26%20c>; rel="next"';
assert.deepEqual(linkHeaders(request({ kind: "x", after: "0" }), filled.next), { link });
assert.deepEqual(fillPage({ limit: 3 }, ["a", "b", "c"], (name) => name).next, null);
