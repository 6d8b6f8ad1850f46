// Work that outlives a request. `jobs` of `definePlugin` runs the jobs.

import * as hostJobs from "keepgate:plugin/jobs@0.1.1";

import { Body, toBody, toBytes } from "./body.js";
import { ask } from "./failure.js";
import { toDate, toNanoseconds, toPrincipal } from "./fields.js";

export const jobs = {
  start(kind, input, options = {}) {
    return ask(() => hostJobs.start(kind, toBytes(input), toOptions(options)));
  },
  startOnMismatch(data, kind, input, options = {}) {
    const handle = toBody(data).take();
    return new Body(ask(() => (
      hostJobs.startOnMismatch(handle, kind, toBytes(input), toOptions(options))
    )));
  },
  get: (id) => toJob(ask(() => hostJobs.get(id))),
  wait: (id, leaves, milliseconds) => toJob(ask(() => hostJobs.wait(id, leaves, milliseconds))),
  list: (kind, max = 100) => ask(() => hostJobs.list(kind, max)).map(toJob),
  cancel: (id) => ask(() => hostJobs.cancel(id)),
  withdraw: (id) => ask(() => hostJobs.withdraw(id)),
  report({ done, total = null, phase = "" }) {
    ask(() => hostJobs.report({ done, total, phase }));
  },
};

function toOptions(options) {
  const { key = "", attempts = 1, whenBusy = "queue" } = options;
  const { notBefore = null, backoff = null, finally: last = null } = options;
  return {
    key, attempts, whenBusy, backoff, finally: last,
    notBefore: notBefore === null ? null : toNanoseconds(notBefore),
  };
}

export function toJob(job) {
  const date = (time) => (time === null || time === undefined ? null : toDate(time));
  return {
    ...job,
    input: toBytes(job.input),
    output: toBytes(job.output),
    principal: toPrincipal(job.principal),
    next: date(job.next),
    created: toDate(job.created),
    started: date(job.started),
    ended: date(job.ended),
  };
}
