// Stores that the operator has granted to the mount.

import * as blobs from "keepgate:plugin/blobs@0.1.1";

import { Body, toBody } from "./body.js";
import { ask } from "./failure.js";
import { Fields, toDate, toNanoseconds, toPairs } from "./fields.js";
import { disown, own } from "./handles.js";

const PAGE = 1000;

export class Store {
  #handle;

  constructor(handle) {
    this.#handle = own(handle);
  }

  static open(name = "main") {
    return new Store(ask(() => blobs.Store.open(name)));
  }

  head(key) {
    return toInfo(ask(() => this.#handle.head(key)));
  }

  heads(keys) {
    const found = ask(() => this.#handle.heads([...keys]));
    return found.map((info) => (info === null || info === undefined ? null : toInfo(info)));
  }

  get(key, part) {
    const found = ask(() => this.#handle.get(key, toPart(part)));
    const { offset, length } = found;
    return { info: toInfo(found.info), offset, length, body: new Body(found.data) };
  }

  put(key, data, options) {
    const body = toBody(data);
    const given = toPutOptions(options);
    const { expires = null } = options ?? {};
    const until = expires === null ? null : toNanoseconds(expires);
    const handle = body.take();
    const put = () =>
      until === null ? this.#handle.put(key, handle, given) : this.#handle.putUntil(key, handle, given, until);
    return toStored(ask(put));
  }

  receive(key, data, options) {
    const body = toBody(data);
    const given = toPutOptions(options);
    const handle = body.take();
    const { stored, complete } = ask(() => this.#handle.receive(key, handle, given));
    return { stored: toStored(stored), complete };
  }

  concat(key, pieces, options) {
    const given = toPutOptions(options);
    return toStored(ask(() => this.#handle.concat(key, pieces.map(toPiece), given)));
  }

  rename(key, to, { condition = "always" } = {}) {
    return toStored(ask(() => this.#handle.rename(key, to, toCondition(condition))));
  }

  delete(key, { matches } = {}) {
    const condition = matches === undefined ? { tag: "always" } : { tag: "matches", val: matches };
    return ask(() => this.#handle.delete(key, condition)) ?? null;
  }

  *list(folder = "", { recursive = true, after } = {}) {
    const listing = own(ask(() => this.#handle.list(folder, recursive, after ?? null)));
    try {
      for (;;) {
        const page = ask(() => listing.next(PAGE));
        if (page.length === 0) {
          return;
        }
        for (const entry of page) {
          yield { ...entry, modified: toDate(entry.modified) };
        }
      }
    } finally {
      disown(listing)[Symbol.dispose]?.();
    }
  }

  prepare(folders) {
    ask(() => this.#handle.prepare(folders));
  }
}

function toInfo(info) {
  return {
    key: info.key,
    size: info.size,
    modified: toDate(info.modified),
    etag: info.etag,
    contentType: info.contentType ?? null,
    metadata: new Fields(info.metadata),
    tags: new Fields(info.tags),
  };
}

function toStored({ info, change }) {
  const replaced = change.tag === "replaced" ? change.val : null;
  return { ...toInfo(info), change: change.tag, replaced };
}

function toPiece(piece) {
  if (typeof piece === "string") {
    return { key: piece, part: toPart(null) };
  }
  const { key, ...part } = piece;
  return { key, part: toPart(Object.keys(part).length === 0 ? null : part) };
}

function toPart(part) {
  if (part === undefined || part === null) {
    return { tag: "whole" };
  }
  if (part.suffix !== undefined) {
    return { tag: "suffix", val: part.suffix };
  }
  return { tag: "slice", val: [part.offset ?? 0, part.length ?? null] };
}

function toPutOptions({ condition = "always", sha256, contentType, metadata, tags } = {}) {
  return {
    condition: toCondition(condition),
    sha256: sha256 ?? null,
    contentType: contentType ?? null,
    metadata: toPairs(metadata),
    tags: toPairs(tags),
  };
}

function toCondition(condition) {
  return typeof condition === "string" ? { tag: condition } : { tag: "matches", val: condition.matches };
}
