// Reads the API each second with the credential that was pasted, and writes three tables. Text only, never markup.
"use strict";

const token = document.getElementById("token");
const state = document.getElementById("state");

async function read(path) {
  const answer = await fetch(path, { headers: { authorization: `Bearer ${token.value.trim()}` } });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

function fill(id, head, rows) {
  const table = document.getElementById(id);
  const row = (cells, kind) => {
    const line = document.createElement("tr");
    for (const cell of cells) {
      const box = document.createElement(kind);
      box.textContent = cell ?? "–";
      if (typeof cell === "number") box.className = "number";
      line.append(box);
    }
    return line;
  };
  table.replaceChildren(row(head, "th"), ...rows.map((cells) => row(cells, "td")));
}

const share = (x) => (x === null ? "–" : `${(100 * x).toFixed(1)} %`);
const ms = (x) => (x === null ? "–" : `${x.toFixed(1)} ms`);

async function refresh() {
  if (!token.value) return;
  try {
    const [stat, sidecars, quota] = await Promise.all([read("/v1/stat"), read("/v1/sidecars"), read("/v1/quota")]);
    fill("services", ["service", "success", "requests/s", "p50", "p95", "p99", "mTLS", "endpoints"],
      stat.services.map((s) => [`${s.namespace}/${s.name}`, share(s.success), s.rps.toFixed(1), ms(s.p50_ms), ms(s.p95_ms), ms(s.p99_ms), share(s.mtls), s.endpoints]));
    fill("sidecars", ["service", "sidecar", "address", "published", "why not", "snapshot refused"],
      sidecars.sidecars.map((s) => [s.service, s.sidecar.slice(0, 12), s.address, s.published ? "yes" : "no", s.unpublished_because, s.nack?.join("; ")]));
    fill("quota", ["service", "peer", "requests", "refusals", "failures", "bytes in", "bytes out"],
      quota.rows.map((r) => [r.service, r.peer, r.requests, r.refusals, r.failures, r.bytes_received, r.bytes_sent]));
    state.lastChild.textContent = ` revision ${stat.revision}`;
  } catch (error) {
    state.lastChild.textContent = ` ${error.message}`;
  }
}

state.append(" ");
setInterval(refresh, 1000);
