// etcd clusters that the operator has configured and granted to the mount.

import * as hostEtcd from "keepgate:plugin/etcd@0.1.1";

import { Body } from "./body.js";
import { ask } from "./failure.js";
import { own } from "./handles.js";

export const etcd = {
  clusters() {
    return hostEtcd.clusters();
  },

  takeSnapshot(cluster, { except = [] } = {}) {
    const snapshot = own(ask(() => hostEtcd.Snapshot.take(cluster, except)));
    const facts = snapshot.facts();
    return {
      facts,
      stale: facts.version.endsWith("+stale"),
      body: () => new Body(ask(() => snapshot.data())),
      sha256: () => snapshot.sha256() ?? null,
    };
  },
};
