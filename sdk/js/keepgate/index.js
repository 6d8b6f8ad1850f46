// The Keepgate SDK for JavaScript: the contract `keepgate:plugin@0.1.1` as classes, iterators and
// exceptions. The folder is beside a plugin's `plugin.js` and is compiled into the component with it; it needs nothing
// but the engine. Types and documentation are in `index.d.ts`: change both together.

import * as environment from "keepgate:plugin/environment@0.1.1";

import { installGlobals } from "./globals.js";

installGlobals(environment);

export * from "./capabilities.js";
export { Failure } from "./failure.js";
export { Fields } from "./fields.js";
export { Reply, Request } from "./http.js";
export { jobApi } from "./job-api.js";
export { fillPage, linkHeaders, page } from "./page.js";
export { definePlugin } from "./plugin.js";
export { expired, fromTheFuture, newestLast, parseDuration } from "./retention.js";
