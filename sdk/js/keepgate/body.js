// Bodies: bytes that the host holds. Passing one on costs nothing; reading it copies it into the plugin.

import * as types from "keepgate:plugin/types@0.1.1";

import { ask, Failure } from "./failure.js";
import { decodeUtf8, encodeUtf8 } from "./globals.js";
import { disown, own } from "./handles.js";

const CHUNK = 64 * 1024;
const MOST_BYTES = 1024 * 1024;

export class Body {
  #handle;

  constructor(handle) {
    this.#handle = own(handle);
  }

  static from(bytes) {
    return new Body(types.Body.fromBytes(toBytes(bytes)));
  }

  get length() {
    return this.#present().length() ?? null;
  }

  read(max = CHUNK) {
    const chunk = ask(() => this.#present().read(max));
    return chunk === null || chunk === undefined ? null : toBytes(chunk);
  }

  *[Symbol.iterator]() {
    for (let chunk = this.read(); chunk !== null; chunk = this.read()) {
      yield chunk;
    }
  }

  bytes(limit = MOST_BYTES) {
    if ((this.length ?? 0) > limit) {
      throw Failure.tooLarge(limit);
    }
    const chunks = [];
    let size = 0;
    for (const chunk of this) {
      size += chunk.length;
      if (size > limit) {
        throw Failure.tooLarge(limit);
      }
      chunks.push(chunk);
    }
    const all = new Uint8Array(size);
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  text(limit) {
    return decodeUtf8(this.bytes(limit), () => {
      throw Failure.invalid("the body is not UTF-8");
    });
  }

  json(limit) {
    const text = this.text(limit);
    try {
      return JSON.parse(text);
    } catch (error) {
      throw Failure.invalid(`the body is not JSON: ${error.message}`);
    }
  }

  /** The host's handle; from now on it belongs to the host again. */
  take() {
    const handle = disown(this.#present());
    this.#handle = null;
    return handle;
  }

  #present() {
    if (this.#handle === null) {
      throw new TypeError("this body has been handed on, and cannot be used again");
    }
    return this.#handle;
  }
}

export function toBytes(value) {
  if (value instanceof Uint8Array) {
    return value;
  }
  if (typeof value === "string") {
    return encodeUtf8(value);
  }
  if (Array.isArray(value)) {
    return Uint8Array.from(value);
  }
  throw new TypeError("neither a Uint8Array nor a string");
}

export function toBody(value) {
  return value instanceof Body ? value : Body.from(value);
}
