// Keys that the operator has granted to the mount. They stay in the host.

import * as hostSecrets from "keepgate:plugin/secrets@0.1.1";

import { toBytes } from "./body.js";
import { ask } from "./failure.js";

export const secrets = {
  keys() {
    return hostSecrets.keys();
  },

  hmacSha256(key, message) {
    return toBytes(ask(() => hostSecrets.hmacSha256(key, toBytes(message))));
  },

  verifyHmacSha256(key, message, mac) {
    return ask(() => hostSecrets.verifyHmacSha256(key, toBytes(message), toBytes(mac)));
  },

  seal(plaintext, context) {
    return toBytes(ask(() => hostSecrets.seal(toBytes(plaintext), toBytes(context))));
  },

  open(sealed, context) {
    return toBytes(ask(() => hostSecrets.open(toBytes(sealed), toBytes(context))));
  },
};
