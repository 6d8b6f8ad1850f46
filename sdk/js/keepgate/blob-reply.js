// GET and HEAD of a blob after RFC 9110: one range, conditions by etag. Headers and content belong to the same blob,
// even if it is replaced in the meantime.

import { Failure } from "./failure.js";

/** GET and HEAD of a blob, with a range and `If-None-Match`. The host sends the bytes. */
export function blobReply(store, key, request, further) {
  const headers = (info, length) => [
    ["content-type", info.contentType ?? "application/octet-stream"],
    ["content-length", String(length)],
    ["etag", `"${info.etag}"`],
    ["last-modified", info.modified.toUTCString()],
    ["accept-ranges", "bytes"],
    ...further,
  ];
  const whole = ({ info, body }) => ({ status: 200, headers: headers(info, info.size), content: body });
  const found = store.get(key);
  const { info } = found;
  const known = request.headers.get("if-none-match");
  const etags = (known ?? "").split(",").map((etag) => etag.trim().replace(/^W\//, ""));
  if (known !== null && (etags.includes("*") || etags.includes(`"${info.etag}"`))) {
    return { status: 304, headers: [["etag", `"${info.etag}"`]], content: null };
  }
  if (request.method === "HEAD") {
    return { status: 200, headers: headers(info, info.size), content: null };
  }
  const part = parseRange(request.headers.has("if-range") ? null : request.headers.get("range"));
  // An empty blob has no byte that a range could name: clients that ask for all of it get it.
  if (part === null || info.size === 0) {
    return whole(found);
  }
  const { info: of, offset, length, body } = rangeOf(store, key, part, info);
  if (of.etag !== info.etag) {
    // It is another blob by now: a server may send all of it.
    return whole(store.get(key));
  }
  const range = `bytes ${offset}-${offset + length - 1}/${of.size}`;
  return { status: 206, headers: [...headers(of, length), ["content-range", range]], content: body };
}

/** A range of the blob; if another blob took its place meanwhile, anything with that one's etag. */
function rangeOf(store, key, part, info) {
  try {
    return store.get(key, part);
  } catch (failure) {
    if (failure instanceof Failure && failure.tag === "out-of-range" && failure.detail !== info.size) {
      return store.get(key);
    }
    throw failure;
  }
}

/** One range of bytes; null for anything else, which a server may ignore (RFC 9110, 14.2). */
function parseRange(value) {
  const found = /^bytes=\s*(\d*)\s*-\s*(\d*)\s*$/.exec(value ?? "");
  if (found === null) {
    return null;
  }
  const [, first, last] = found;
  const number = (digits) => Math.min(Number(digits), Number.MAX_SAFE_INTEGER - 1);
  if (first === "") {
    return last === "" ? null : { suffix: number(last) };
  }
  if (last === "") {
    return { offset: number(first) };
  }
  const length = number(last) - number(first) + 1;
  return length > 0 ? { offset: number(first), length } : null;
}
