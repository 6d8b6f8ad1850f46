// What the host does for plugins beside keeping blobs: pipes, clusters of etcd, jobs.

import * as hostEtcd from "keepgate:plugin/etcd@0.1.0";
import * as hostJobs from "keepgate:plugin/jobs@0.1.0";
import * as hostPipes from "keepgate:plugin/pipes@0.1.0";

import { Body, toBody, toBytes } from "./body.js";
import { now } from "./environment.js";
import { ask } from "./failure.js";
import { toDate, toNanoseconds, toPrincipal } from "./fields.js";
import { own } from "./handles.js";

export const pipes = {
  gzip(data, level = 6) {
    const handle = toBody(data).take();
    return new Body(ask(() => hostPipes.gzip(handle, level)));
  },

  gunzip(data) {
    return new Body(hostPipes.gunzip(toBody(data).take()));
  },

  tar(entries) {
    const given = [...entries].map(({ path, size, mode = 0o644, modified = now(), data }) => ({
      path, size, mode, modified: toNanoseconds(modified), data: toBody(data).take(),
    }));
    return new Body(ask(() => hostPipes.tar(given)));
  },

  spool(data) {
    const handle = toBody(data).take();
    const { size, sha256, data: spooled } = ask(() => hostPipes.spool(handle));
    return { size, sha256, body: new Body(spooled) };
  },

  meter(data) {
    const [meter, metered] = hostPipes.Meter.attach(toBody(data).take());
    own(meter);
    return { body: new Body(metered), sum: () => meter.sum() ?? null };
  },
};

export const etcd = {
  clusters() {
    return hostEtcd.clusters();
  },

  takeSnapshot(cluster, { except = [] } = {}) {
    const snapshot = own(ask(() => hostEtcd.Snapshot.take(cluster, except)));
    return {
      facts: snapshot.facts(),
      body: () => new Body(ask(() => snapshot.data())),
      sha256: () => snapshot.sha256() ?? null,
    };
  },
};

export const jobs = {
  start(kind, input, options = {}) {
    const { key = "", attempts = 1, whenBusy = "queue" } = options;
    const { notBefore = null, backoff = null, finally: last = null } = options;
    return ask(() => hostJobs.start(kind, toBytes(input), {
      key, attempts, whenBusy, backoff, finally: last,
      notBefore: notBefore === null ? null : toNanoseconds(notBefore),
    }));
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
