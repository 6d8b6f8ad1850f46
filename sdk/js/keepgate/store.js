// Stores that the operator granted to the mount.

import * as blobs from "keepgate:plugin/blobs@0.1.0";

import { Body, toBody } from "./body.js";
import { ask, Failure } from "./failure.js";
import { Fields, toDate, toPairs } from "./fields.js";
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

  get(key, part) {
    const found = ask(() => this.#handle.get(key, toPart(part)));
    const { offset, length } = found;
    return { info: toInfo(found.info), offset, length, body: new Body(found.data) };
  }

  put(key, data, options) {
    const body = toBody(data);
    const given = toPutOptions(options);
    const handle = body.take();
    return toInfo(ask(() => this.#handle.put(key, handle, given)));
  }

  concat(key, parts, options) {
    return toInfo(ask(() => this.#handle.concat(key, parts, toPutOptions(options))));
  }

  delete(key) {
    return ask(() => this.#handle.delete(key)) ?? null;
  }

  *list(folder = "", { recursive = true } = {}) {
    const listing = this.#startListing(folder, recursive);
    if (listing === null) {
      return;
    }
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

  /** None at the top of a store in which nothing was stored yet: a top is always there. */
  #startListing(folder, recursive) {
    try {
      return own(ask(() => this.#handle.list(folder, recursive)));
    } catch (failure) {
      if (folder === "" && failure instanceof Failure && failure.tag === "not-found") {
        return null;
      }
      throw failure;
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
    condition: typeof condition === "string" ? { tag: condition } : { tag: "matches", val: condition.matches },
    sha256: sha256 ?? null,
    contentType: contentType ?? null,
    metadata: toPairs(metadata),
    tags: toPairs(tags),
  };
}
