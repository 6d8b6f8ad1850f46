// Requests and replies.

import * as http from "keepgate:plugin/http@0.1.1";

import { blobReply } from "./blob-reply.js";
import { Body, toBytes } from "./body.js";
import { ask } from "./failure.js";
import { Fields, toPairs, toPrincipal } from "./fields.js";
import { own } from "./handles.js";

export class Request {
  constructor(request) {
    this.method = request.method;
    this.base = request.base;
    this.target = request.target;
    this.address = request.address ?? null;
    this.id = request.id;
    this.path = request.path;
    this.trailingSlash = request.trailingSlash;
    this.query = new Fields(request.query);
    this.headers = new Fields(request.headers);
    this.principal = toPrincipal(request.principal);
    this.body = new Body(request.body);
  }

  get user() {
    return this.principal?.name ?? "";
  }

  url(...segments) {
    const below = segments.map(encodeURIComponent).join("/");
    if (this.base !== "") {
      return `${this.base}/${below}`;
    }
    // A relative reference starts at the last slash of the request's path.
    const up = this.path.length - (this.trailingSlash ? 0 : 1);
    if (up < 0) {
      // The mount's own path without a slash at its end: the reference repeats its name.
      return `./${this.target.split("?")[0].split("/").at(-1)}/${below}`;
    }
    return (up === 0 ? "./" : "../".repeat(up)) + below;
  }
}

export class Reply {
  constructor(status = 200, headers = {}, content = null) {
    this.status = status;
    this.headers = toPairs(headers);
    this.content = content;
  }

  static empty(status = 204, headers = {}) {
    return new Reply(status, headers);
  }

  static text(text, { status = 200, headers = {} } = {}) {
    return new Reply(status, [["content-type", "text/plain; charset=utf-8"], ...toPairs(headers)], text);
  }

  static json(value, { status = 200, headers = {} } = {}) {
    const type = ["content-type", "application/json"];
    return new Reply(status, [type, ...toPairs(headers)], JSON.stringify(value));
  }

  static methodNotAllowed(...allowed) {
    const allow = allowed.join(", ");
    return Reply.text(`only ${allow}\n`, { status: 405, headers: { allow } });
  }

  static stream(chunks, { status = 200, headers = {} } = {}) {
    return new Reply(status, headers, new Chunks(chunks));
  }

  sendInterim() {
    ask(() => http.inform({ status: this.status, headers: this.headers }));
  }

  static blob(store, key, request, headers = {}) {
    const { status, headers: all, content } = blobReply(store, key, request, toPairs(headers));
    return new Reply(status, all, content);
  }
}

/** Content that is made while it is sent. */
class Chunks {
  constructor(chunks) {
    this.chunks = chunks;
  }
}

/** Hands a reply to the host. A streamed one is started here and written to its end. */
export function sendReply(reply) {
  if (!(reply instanceof Reply)) {
    throw new TypeError("handle() returned no Reply");
  }
  const head = { status: reply.status, headers: reply.headers };
  const { content } = reply;
  if (content instanceof Chunks) {
    const writer = own(ask(() => http.Writer.start(head)));
    for (const chunk of content.chunks) {
      ask(() => writer.write(toBytes(chunk)));
    }
    return { tag: "streamed" };
  }
  if (content === null) {
    return { tag: "full", val: [head, { tag: "empty" }] };
  }
  const sent = content instanceof Body
    ? { tag: "body", val: content.take() }
    : { tag: "bytes", val: toBytes(content) };
  return { tag: "full", val: [head, sent] };
}
