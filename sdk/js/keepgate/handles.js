// Handles of the host. Each is remembered until the call ends or somebody takes it, so that nothing
// that a call leaves behind stays: an instance that leaves handles is not used again.

let owned = [];

/** Remembers a handle until the call ends or somebody takes it. */
export function own(handle) {
  owned.push(handle);
  return handle;
}

/** Takes a handle out of our hands: the host gets it, or has got it. */
export function disown(handle) {
  const at = owned.lastIndexOf(handle);
  if (at >= 0) {
    owned.splice(at, 1);
  }
  return handle;
}

/** Gives back what the call left behind, the newest first: an instance may serve again. */
export function releaseAll() {
  const left = owned;
  owned = [];
  for (const handle of left.reverse()) {
    handle[Symbol.dispose]?.();
  }
}
