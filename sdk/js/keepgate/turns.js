// Turns: what must not be done twice at the same time waits for its turn.

import * as hostTurns from "keepgate:plugin/turns@0.1.1";

import { ask } from "./failure.js";
import { disown, own } from "./handles.js";

export function withTurn(name, action, { wait = 60_000 } = {}) {
  const turn = own(ask(() => hostTurns.Turn.take(name, wait)));
  try {
    return action();
  } finally {
    disown(turn)[Symbol.dispose]?.();
  }
}
