// Topics: news for whoever waits for it, within a mount and within one gateway.

import * as hostTopics from "keepgate:plugin/topics@0.1.1";

import { toBytes } from "./body.js";
import { ask } from "./failure.js";
import { disown, own } from "./handles.js";

export const topics = {
  publish: (topic, message) => ask(() => hostTopics.publish(topic, toBytes(message))),
  subscribe: (topic) => new Subscription(own(ask(() => hostTopics.Subscription.open(topic)))),
};

class Subscription {
  constructor(handle) {
    this.handle = handle;
  }

  next({ wait = 20_000 } = {}) {
    const { tag, val } = this.handle.next(wait);
    return tag === "message" ? toBytes(val) : tag;
  }

  close() {
    disown(this.handle)[Symbol.dispose]?.();
  }
}
