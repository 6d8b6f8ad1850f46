// What a mount may grant a plugin. This file is the only list: a new capability is a file of its own and a line here,
// and a field at the end if plugins name what they want of it.

export { Body } from "./body.js";
export { count, log, now, random, setGauge } from "./environment.js";
export { etcd } from "./etcd.js";
export { jobs } from "./jobs.js";
export { pipes } from "./pipes.js";
export { records } from "./records.js";
export { secrets } from "./secrets.js";
export { Store } from "./store.js";
export { topics } from "./topics.js";
export { withTurn } from "./turns.js";
export { upstreams } from "./upstreams.js";

/** The fields of a description by which a plugin asks for capabilities; by default it asks for nothing. */
export default { stores: [], clusters: [] };
