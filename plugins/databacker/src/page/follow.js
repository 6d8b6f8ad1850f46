// Appends lines of a log as they come. Without this script the page shows what there was when it was loaded.
"use strict";
(async () => {
  const log = document.querySelector("[data-follow]");
  const state = document.querySelector("[data-state]");
  if (!log) return;
  // A page may have been opened by a URL with a password in it, which `fetch` refuses.
  const fetchFrom = (path, accept) => {
    const url = new URL(path, location.href);
    url.username = url.password = "";
    return fetch(url, { headers: { accept } });
  };
  const time = (text) => (text || "").replace("T", " ").slice(0, 19);
  const show = (text) => { if (state) state.textContent = text; };
  const line = (text) => {
    let entry;
    try { entry = JSON.parse(text); } catch { return; }
    const row = log.insertRow();
    row.className = ["error", "fatal"].includes(entry.level) ? "error" : "";
    for (const cell of [time(entry.timestamp), entry.level, entry.message]) {
      row.insertCell().textContent = cell === undefined ? "" : String(cell);
    }
    row.cells[0].className = "nowrap muted";
  };
  let first = true;
  for (let pause = 1000; ; pause = Math.min(pause * 2, 30000)) {
    try {
      const reply = await fetchFrom(log.dataset.follow, "application/x-ndjson");
      if (!reply.ok) throw new Error(String(reply.status));
      // What is on the page is sent again.
      while (log.rows.length > 0) log.deleteRow(0);
      first = false;
      show("following");
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
        lines.filter((text) => text !== "").forEach(line);
        if (atEnd) window.scrollTo(0, document.body.scrollHeight);
        pause = 1000;
      }
      // The stream ends with its run, and otherwise after some time, or when the gateway is restarted.
      const run = await fetchFrom(log.dataset.run, "application/json");
      if (run.ok && (await run.json()).status !== "running") { show("the run has ended"); return; }
      show("waiting");
    } catch {
      show(first ? "cannot be followed at the moment" : "interrupted; trying again");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
})();
