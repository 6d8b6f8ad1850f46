// An HTTP API for jobs: start one and wait, or reply with 202 at once; show its status; cancel it. The job does the
// work, so a client that disconnects changes nothing.

import { decodeUtf8 } from "./globals.js";
import { Failure } from "./failure.js";
import { Reply } from "./http.js";
import { jobs } from "./jobs.js";

/** How long one call of the host waits before it is repeated, in milliseconds. */
const ROUND = 600_000;

const isOpen = (job) => job.state === "queued" || job.state === "running";

/** Why a job failed, was cancelled, or waits. */
const reason = (job) =>
  job.state === "cancelled" && job.message === "" ? "the job was cancelled" : job.message;

export const jobApi = {
  prefersAsync(request) {
    const preferences = request.headers.getAll("prefer").flatMap((value) => value.split(","));
    const names = preferences.map((preference) => preference.split(";")[0].trim().toLowerCase());
    return names.includes("respond-async");
  },

  accepted(request, path, body) {
    const applied = jobApi.prefersAsync(request) ? { "preference-applied": "respond-async" } : {};
    return Reply.json(body, { status: 202, headers: { location: request.url(...path), ...applied } });
  },

  wait(id, turn) {
    let job = jobs.wait(id, "queued", turn);
    if (job.state === "queued" && jobs.withdraw(id)) {
      return null;
    }
    while (isOpen(job)) {
      job = jobs.wait(id, job.state, ROUND);
    }
    return job;
  },

  find(id, kind, fits = () => true) {
    const job = jobs.get(id);
    if (job.kind !== kind || !fits(job)) {
      throw Failure.notFound();
    }
    return job;
  },

  status(job, failed) {
    const document = {
      job: job.id,
      state: job.state,
      origin: job.origin,
      attempt: job.attempt,
      phase: job.progress.phase,
      done: job.progress.done,
      total: job.progress.total ?? null,
      created: job.created.toISOString(),
      started: job.started?.toISOString() ?? null,
      ended: job.ended?.toISOString() ?? null,
    };
    if (!isOpen(job)) {
      document.result = output(job) ?? failed(reason(job));
    } else if (job.message !== "") {
      document.error = job.message;
    }
    return Reply.json(document, { headers: { "cache-control": "no-store" } });
  },

  cancel(job) {
    if (!jobs.cancel(job.id)) {
      throw Failure.refused(409, "", "the job has ended");
    }
    return Reply.empty();
  },

  reason,
};

/** The output of a job that succeeded, if it is JSON. */
function output(job) {
  if (job.state !== "succeeded") {
    return undefined;
  }
  try {
    return JSON.parse(decodeUtf8(job.output, () => {
      throw new SyntaxError("not UTF-8");
    }));
  } catch {
    return undefined;
  }
}
