// HTTP systems that the operator has configured and granted to the mount.

import * as hostUpstreams from "keepgate:plugin/upstreams@0.1.1";

import { Body, toBody } from "./body.js";
import { ask } from "./failure.js";
import { Fields, toPairs } from "./fields.js";
import { own } from "./handles.js";

export const upstreams = {
  names() {
    return hostUpstreams.names();
  },

  check(upstream, target, { method = "GET" } = {}) {
    ask(() => hostUpstreams.check(upstream, method, target));
  },

  send(upstream, target, { method = "GET", headers, body, json, answerWithin, silentFor, maxBody, resume = false } = {}) {
    const pairs = toPairs(headers);
    let bytes = body;
    if (json !== undefined) {
      pairs.push(["content-type", "application/json"]);
      bytes = JSON.stringify(json);
    }
    const request = { method, target, headers: pairs };
    const options = { answerWithin, silentFor, maxBody, resume };
    const handle = bytes === undefined || bytes === null ? undefined : toBody(bytes).take();
    const exchange = own(ask(() => hostUpstreams.Exchange.send(upstream, request, handle, options)));
    return {
      status: exchange.status(),
      headers: new Fields(exchange.headers()),
      body: () => new Body(ask(() => exchange.body())),
    };
  },
};
