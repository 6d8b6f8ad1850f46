// A small ordered table of the mount: records that change together or not at all.

import * as hostRecords from "keepgate:plugin/records@0.1.1";

import { toBytes } from "./body.js";
import { ask } from "./failure.js";

function toRecord(record) {
  const { key, value, version } = record;
  return { key, value: toBytes(value), version };
}

function toRange(prefix, { after, descending = false } = {}) {
  return { prefix, after, descending };
}

export const records = {
  get(key) {
    return this.getAll([key])[0];
  },

  getAll(keys) {
    const found = ask(() => hostRecords.get([...keys]));
    return found.map((record) => (record === undefined ? null : toRecord(record)));
  },

  page(prefix, options, max = 1000) {
    const { records: found, more } = ask(() => hostRecords.scan(toRange(prefix, options), max));
    return { records: found.map(toRecord), more };
  },

  *scan(prefix, options = {}) {
    let { after } = options;
    for (;;) {
      const { records: found, more } = this.page(prefix, { ...options, after });
      yield* found;
      if (!more || found.length === 0) {
        return;
      }
      after = found[found.length - 1].key;
    }
  },

  commit({ absent = [], present = [], unchanged = [], put = {}, delete: removed = [] }) {
    const comparisons = [
      ...absent.map((key) => ({ key, expected: { tag: "absent" } })),
      ...present.map((key) => ({ key, expected: { tag: "present" } })),
      ...unchanged.map(({ key, version }) => ({ key, expected: { tag: "version", val: version } })),
    ];
    const changes = [
      ...Object.entries(put).map(([key, value]) => ({ tag: "put", val: [key, toBytes(value)] })),
      ...removed.map((key) => ({ tag: "delete", val: key })),
    ];
    return ask(() => hostRecords.commit(comparisons, changes));
  },
};
