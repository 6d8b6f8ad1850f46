// Handles of the host. Each is remembered until the call ends or somebody takes it, and given back then: an instance
// that leaves handles behind is not used again.

let owned = [];

/** Remembers a handle until the call ends or somebody takes it. */
export function own(handle) {
  owned.push(handle);
  return handle;
}

/** Forgets a handle that the host gets, or has got. */
export function disown(handle) {
  const at = owned.lastIndexOf(handle);
  if (at >= 0) {
    owned.splice(at, 1);
  }
  return handle;
}

/** Gives back what the call left behind, the newest first, so that the instance can serve again. */
export function releaseAll() {
  const left = owned;
  owned = [];
  for (const handle of left.reverse()) {
    handle[Symbol.dispose]?.();
  }
}
