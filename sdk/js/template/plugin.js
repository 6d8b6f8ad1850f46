// Named archives in the mount's store `main`:
//
//     GET    /        a JSON list: names, sizes in bytes
//     PUT    /NAME    stores the body: 201, or 409 where another archive has that name
//     GET    /NAME    the bytes, whole or a range; HEAD answers without them
//     DELETE /NAME    removes it: 204
//
// No byte of an archive enters the plugin: bodies are handles, and the host moves the bytes.

import { definePlugin, Failure, log, Reply, Store } from "./keepgate/index.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export const { guest, jobRunner } = definePlugin({
  describe: {
    name: "{{name}}",
    version: "0.1.0",
    summary: "Named archives: PUT, GET, DELETE and a list",
    stores: ["main"],
  },

  // `settings` is what the operator writes under [mount.settings].
  checkSettings(settings) {
    const { replace = false, ...unknown } = settings;
    if (typeof replace !== "boolean") {
      throw new Error("replace is true or false");
    }
    for (const key of Object.keys(unknown)) {
      throw new Error(`unknown setting ${JSON.stringify(key)}; the plugin has replace`);
    }
  },

  handle(request, settings) {
    const store = Store.open("main");
    const [name = "", ...below] = request.path;
    if (below.length > 0) {
      throw Failure.notFound();
    }
    return name === "" ? atTop(store, request) : atArchive(store, request, name, settings);
  },
});

function atTop(store, request) {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return Reply.methodNotAllowed("GET", "HEAD");
  }
  const archives = [];
  for (const { key, size } of store.list()) {
    archives.push({ name: key, size });
  }
  return Reply.json(archives);
}

function atArchive(store, request, name, { replace = false }) {
  if (!NAME.test(name)) {
    throw Failure.invalid("a name has up to 128 letters, digits, dots, dashes and underscores");
  }
  switch (request.method) {
    case "GET":
    case "HEAD":
      return Reply.blob(store, name, request);
    case "PUT": {
      // Uploading the same bytes again succeeds: a client whose reply got lost sends them again.
      const condition = replace ? "always" : "absent-or-identical";
      const sha256 = request.headers.get("x-sha256");
      const { size, etag } = store.put(name, request.body, { condition, sha256 });
      log.info("archive stored", { name, size });
      return Reply.json({ name, size }, { status: 201, headers: { etag: `"${etag}"` } });
    }
    case "DELETE":
      if (store.delete(name) === null) {
        throw Failure.notFound();
      }
      return Reply.empty();
    default:
      return Reply.methodNotAllowed("GET", "HEAD", "PUT", "DELETE");
  }
}
