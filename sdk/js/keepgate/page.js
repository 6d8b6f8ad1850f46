// Lists in pages: a client says how many items it wants and after which, and gets a `Link` to the rest (RFC 8288).

import { Failure } from "./failure.js";

export function page(request, standard, most) {
  const asked = request.query.get("limit");
  const limit = asked === null ? standard : Number(asked);
  if (!/^[0-9]+$/.test(asked ?? "1") || limit < 1 || limit > most) {
    throw Failure.invalid(`limit: ${JSON.stringify(asked)} is not a number from 1 to ${most}`);
  }
  return { limit, after: request.query.get("after") ?? undefined };
}

/** Takes as many items as the page has, and one more to know whether there is another page. */
export function fillPage({ limit }, items, place) {
  const filled = [];
  for (const item of items) {
    if (filled.length === limit) {
      return { items: filled, next: place(filled.at(-1)) };
    }
    filled.push(item);
  }
  return { items: filled, next: null };
}

/** The header `Link` to the next page; none for the last. */
export function linkHeaders(request, next) {
  if (next === null) {
    return {};
  }
  const pairs = [...request.query].filter(([name]) => name !== "after").concat([["after", next]]);
  const query = pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  const path = request.trailingSlash && request.path.length > 0 ? [...request.path, ""] : request.path;
  return { link: `<${request.url(...path)}?${query}>; rel="next"` };
}
