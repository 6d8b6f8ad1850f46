// The environment of a call: clock, random numbers, the operator's log and metrics.

import * as environment from "keepgate:plugin/environment@0.1.1";

import { toBytes } from "./body.js";
import { toDate, toPairs } from "./fields.js";

export function now() {
  return toDate(environment.now());
}

export function random(length) {
  return toBytes(environment.random(length));
}

export function count(metric, labels = [], by = 1) {
  environment.count(metric, labels.map(String), by);
}

export function setGauge(metric, labels, value) {
  environment.set(metric, labels.map(String), value);
}

const logAt = (level) => (message, fields) => environment.log(level, String(message), toPairs(fields));

export const log = {
  trace: logAt("trace"),
  debug: logAt("debug"),
  info: logAt("info"),
  warn: logAt("warn"),
  error: logAt("error"),
};
