// Plugins, and how they become the exports of a component.

import * as environment from "keepgate:plugin/environment@0.1.1";

import { toBytes } from "./body.js";
import nothingAskedFor from "./capabilities.js";
import { log } from "./environment.js";
import { describeError, Failure, refusalHeaders, toVariant } from "./failure.js";
import { releaseAll } from "./handles.js";
import { Reply, Request, sendReply } from "./http.js";
import { toJob } from "./jobs.js";

/** Runs one call from the host, and leaves no handle behind. */
function during(call) {
  try {
    return call();
  } catch (error) {
    throw toVariant(error);
  } finally {
    releaseAll();
  }
}

function parseSettings() {
  return JSON.parse(environment.settings());
}

/** A reply, or what the plugin makes of a failure in its surface's own form. */
function answer(handle, refuse) {
  try {
    return handle();
  } catch (error) {
    const failure = error instanceof Failure ? error : new Failure("internal", describeError(error));
    // Only the host knows whether the client was the one that did not send.
    const reply = failure.tag === "timed-out" ? undefined : refuse?.(failure);
    if (!(reply instanceof Reply)) {
      throw error;
    }
    if (failure.tag === "internal") {
      log.error(failure.detail ?? failure.message);
    }
    reply.headers.push(...refusalHeaders(failure));
    return reply;
  }
}

/** The same for calls whose error is a text for the operator: an `Error` is meant, any other exception is a bug. */
function inWords(call) {
  try {
    return call();
  } catch (error) {
    const isMeant = error instanceof Failure || error?.constructor === Error;
    throw isMeant ? error.message : describeError(error);
  } finally {
    releaseAll();
  }
}

export function definePlugin(plugin) {
  const { describe, checkSettings = () => {}, handle, refuse, jobs: runners = {} } = plugin;
  const description = {
    summary: "", defaultMount: `/${describe.name}`, ...nothingAskedFor, ...describe,
    jobs: Object.keys(runners),
    metrics: (describe.metrics ?? []).map((metric) => ({ kind: "counter", labels: [], ...metric })),
  };
  const runner = (kind) => {
    if (!Object.hasOwn(runners, kind)) {
      throw Failure.invalid(`this plugin runs no jobs of the kind ${JSON.stringify(kind)}`);
    }
    return runners[kind];
  };
  return {
    guest: {
      describe: () => description,
      checkSettings: (settings) => inWords(() => void checkSettings(JSON.parse(settings))),
      handle: (request) =>
        during(() =>
          sendReply(answer(() => handle(new Request(request), parseSettings()), refuse))),
    },
    jobRunner: {
      check: (kind, input) =>
        inWords(() => runner(kind).check?.(toBytes(input), parseSettings()) ?? ""),
      run: (job) =>
        during(() => toBytes(runner(job.kind).run(toJob(job), parseSettings()) ?? "")),
    },
  };
}
