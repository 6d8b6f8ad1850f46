// Transformations that the host applies to bodies while they stream. No byte enters the plugin.

import * as hostPipes from "keepgate:plugin/pipes@0.1.1";

import { Body, toBody } from "./body.js";
import { now } from "./environment.js";
import { ask } from "./failure.js";
import { toNanoseconds } from "./fields.js";
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

  verified(data, sha256) {
    const handle = toBody(data).take();
    return new Body(ask(() => hostPipes.verified(handle, sha256)));
  },

  checked(data, xxh3) {
    const handle = toBody(data).take();
    return new Body(ask(() => hostPipes.checked(handle, xxh3)));
  },

  checksum(data) {
    const [checksum, passing] = hostPipes.Checksum.attach(toBody(data).take());
    own(checksum);
    return { body: new Body(passing), xxh3: () => checksum.xxh3() ?? null };
  },

  limit(data, max) {
    return new Body(hostPipes.limit(toBody(data).take(), max));
  },

  exactly(data, length) {
    return new Body(hostPipes.exactly(toBody(data).take(), length));
  },

  join(bodies) {
    const handles = [...bodies].map((data) => toBody(data).take());
    return new Body(ask(() => hostPipes.join(handles)));
  },

  meter(data) {
    const [meter, metered] = hostPipes.Meter.attach(toBody(data).take());
    own(meter);
    return { body: new Body(metered), sum: () => meter.sum() ?? null };
  },
};
