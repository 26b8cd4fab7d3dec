"use strict";
// Whatever users or code wrote is put on the page as text (`el`, `textContent`), never as HTML.

const ROOT = "/_dev/", POLL_MS = 500, NOW_MS = 5000, KEPT = 500, KEPT_MS = 900_000, WINDOW_MS = 60_000;
const PROBES = ["/health", "/metrics"];
const byId = (id) => document.getElementById(id);
const requests = new Map(); // by trace and span
const rowOf = new Map(); // their table rows
let last = 0, facts = {}, shown = null, readings = [], token = null;

// ---- elements

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const whole = new Intl.NumberFormat("en");
const count = (number) => (number === null || number === undefined ? "" : whole.format(Math.round(number)));
const plural = (number, noun) => `${count(number)} ${noun}${Math.round(number) === 1 ? "" : "s"}`;
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
function time(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 100 || ms === 0 ? `${count(ms)} ms` : `${ms.toFixed(ms >= 10 ? 1 : 2)} ms`;
}
const linkTo = (trace, ...text) => el("a", { href: `${ROOT}trace/${trace}` }, ...text);
const tag = (text, bad = false) => [" ", el("span", { class: bad ? "tag bad" : "tag" }, text)]; // the space is for who copies
const cell = (name, text, kind = "") => el("td", { class: kind || null, "data-name": text === "" ? null : name, role: "cell" }, text);

async function ask(path) {
  const answer = await fetch(`${ROOT}data/${path}`);
  return answer.ok ? answer.json() : null;
}

// ---- requests

function* rowsOf(trace) {
  let servers = trace.spans.filter((span) => span.kind === "SERVER");
  if (!servers.length && facts.replay) servers = trace.spans;
  for (const span of servers) {
    const own = span.attributes, status = own["http.response.status_code"];
    yield {
      trace: trace.id, key: trace.id + span.id, start: span.start / 1e6, ms: (span.end - span.start) / 1e6, status,
      name: own["http.request.method"] ? `${own["http.request.method"]} ${own["http.route"] || own["url.path"]}` : span.name,
      databaseMs: own["app.db.duration_ms"], statements: own["app.db.query_count"], user: own["user.id"],
      repeats: own["app.db.n_plus_one"] ? own["app.db.max_repeat"] : 0, failed: Boolean(span.error) || status >= 500,
    };
  }
  if (servers.length) return;
  for (const { fields, created } of trace.lines) { // refused before it had a span, or not sampled
    if (!fields.method) continue;
    yield {
      trace: trace.id, key: trace.id, start: created * 1000 - fields.duration_ms, ms: fields.duration_ms,
      status: fields.status, name: `${fields.method} ${fields.route || "-"}`, databaseMs: fields.db_ms,
      statements: fields.db_queries, user: fields.user_id, repeats: 0, failed: !(fields.status < 500),
    };
  }
}

const isSlow = (row) => row.ms >= facts.slow_ms;
const statusClass = (row) => (row.failed ? "bad" : row.status >= 400 ? "warn" : "");

function drawRow(row) {
  const more = [isSlow(row) ? tag("slow") : null, row.repeats ? tag(`N+1: ${row.repeats} times`) : null];
  const drawn = el("tr", { role: "row", onclick: (event) => event.target.closest("a") || getSelection().toString() || go(`${ROOT}trace/${row.trace}`) },
    cell("", clock(row.start), "mono"), el("td", { class: "first", role: "cell" }, linkTo(row.trace, row.name), ...more),
    cell("", String(row.status ?? "none"), statusClass(row)), cell("", time(row.ms), isSlow(row) ? "n warn" : "n"),
    cell("database", time(row.databaseMs), "n"), cell("statements", count(row.statements), "n"), cell("user", row.user ?? ""));
  drawn.start = row.start;
  return drawn;
}

function take(trace) {
  for (const row of rowsOf(trace)) {
    const before = rowOf.get(row.key), drawn = drawRow(row);
    requests.set(row.key, row);
    rowOf.set(row.key, drawn);
    if (before) {
      before.replaceWith(drawn);
      continue;
    }
    const next = [...byId("rows").children].find((other) => other.start <= row.start);
    byId("rows").insertBefore(drawn, next ?? null);
    if (![...byId("route").options].some((option) => option.value === row.name)) {
      byId("route").append(el("option", { value: row.name }, row.name));
    }
  }
}

function forgetOld() {
  const old = [...requests.values()].sort((a, b) => b.start - a.start).slice(KEPT);
  for (const { key } of old) {
    rowOf.get(key).remove();
    rowOf.delete(key);
    requests.delete(key);
  }
}

function filter() {
  const chosen = { route: byId("route").value, status: byId("status").value };
  const ticked = ["slow", "failed", "repeats"].filter((id) => byId(id).checked);
  const is = { slow: isSlow, failed: (row) => row.failed, repeats: (row) => row.repeats > 0 };
  let seen = 0;
  for (const [key, row] of requests) {
    const fits = (!chosen.route || row.name === chosen.route)
      && (!chosen.status || String(row.status)[0] === chosen.status[0]) && ticked.every((id) => is[id](row));
    rowOf.get(key).hidden = !fits;
    seen += fits;
  }
  const hidden = requests.size - seen;
  byId("count").textContent = plural(requests.size, "request") + (hidden ? `, ${count(hidden)} hidden by the filters` : "");
  byId("none").replaceChildren(...(seen ? [] : requests.size ? ["No request fits the filters."] : [
    "No request yet. ", el("a", { href: `${ROOT}try` }, "Send one"), ", or give a user many rows to search: ",
    el("code", {}, "python -m devtools seed alice"),
  ]));
}

// ---- one request

function kindOf(span) {
  if (span.kind === "SERVER") return "server";
  if (span.attributes["db.query.text"] || span.attributes["db.system.name"]) return "statement";
  if (span.attributes["app.pool"] || /\bwait\b/.test(span.name)) return "wait";
  return span.kind === "CLIENT" || span.kind === "PRODUCER" ? "call" : "inside";
}

function arrange(spans) {
  const known = new Map(spans.map((span) => [span.id, span])), below = new Map();
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const parent = known.has(span.parent) ? span.parent : null;
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const ordered = [];
  const walk = (id, depth) => (below.get(id) ?? []).forEach((span) => {
    ordered.push({ ...span, depth, ms: (span.end - span.start) / 1e6, type: kindOf(span), leaf: !below.has(span.id) });
    walk(span.id, depth + 1);
  });
  walk(null, 0);
  return ordered;
}

function planOf(span) {
  try {
    return JSON.parse(span.attributes["app.db.plan"]);
  } catch {
    return null;
  }
}

const TAKE_TIMES = `make psql ARGS="-c 'ALTER SYSTEM SET auto_explain.log_timing = on' -c 'SELECT pg_reload_conf()'"`;

function nodesOf(plan, depth = 0) {
  const loops = plan["Actual Loops"] ?? 1, below = plan.Plans ?? [], has = "Actual Rows" in plan;
  const removed = Object.keys(plan).filter((key) => key.startsWith("Rows Removed by")).reduce((sum, key) => sum + plan[key] * loops, 0);
  const blocks = (node) => (node["Shared Hit Blocks"] ?? 0) + (node["Shared Read Blocks"] ?? 0);
  const spent = (node) => (node["Actual Total Time"] ?? 0) * (node["Actual Loops"] ?? 1);
  const own = Math.max(0, blocks(plan) - below.reduce((sum, node) => sum + blocks(node), 0));
  const rows = has ? plan["Actual Rows"] * loops : plan["Plan Rows"];
  const expected = Math.max(plan["Plan Rows"] ?? 1, 1), actual = Math.max(plan["Actual Rows"] ?? 1, 1);
  const node = {
    plan, depth, rows, removed, blocks: own, read: plan["Shared Read Blocks"], measured: has, error: has && loops ? actual / expected : 1,
    ms: "Actual Total Time" in plan ? spent(plan) : null, work: rows + removed + own,
    ownMs: Math.max(0, spent(plan) - below.reduce((sum, other) => sum + spent(other), 0)),
    name: (plan["Parallel Aware"] ? "Parallel " : "") + plan["Node Type"] + (plan["Relation Name"] ? ` on ${plan["Relation Name"]}` : "")
      + (plan["Index Name"] ? ` using ${plan["Index Name"]}` : ""),
  };
  return [node, ...below.flatMap((child) => nodesOf(child, depth + 1))];
}

function worstOf(nodes) {
  const by = nodes.some((node) => node.ms !== null) ? "ownMs" : "work";
  return nodes.reduce((worst, node) => (node[by] > worst[by] ? node : worst));
}

const didTo = (node) => `${node.measured ? "" : "an estimated "}${plural(node.rows, "row")} came out`
  + (node.removed ? `, ${count(node.removed)} ${Math.round(node.removed) === 1 ? "was" : "were"} read and thrown away` : "");

function drawPlan(span, plan) {
  const nodes = nodesOf(plan), worst = worstOf(nodes), server = span.attributes["app.db.server_ms"];
  const conditions = ["Index Cond", "Filter", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Sort Key", "Group Key"];
  const error = (node) => {
    const factor = Math.max(node.error, 1 / node.error);
    return factor < 2 ? "good" : `${node.error > 1 ? "too low" : "too high"}, ×${count(factor)}`;
  };
  const rows = nodes.map((node) => {
    const name = el("td", {}, node === worst && nodes.length > 1 ? el("strong", {}, node.name) : node.name,
      node === worst ? tag("costs most") : null,
      conditions.filter((key) => node.plan[key]).map((key) => el("small", {}, `${key}: ${[node.plan[key]].flat().join(", ")}`)));
    name.style.paddingLeft = `${8 + node.depth * 18}px`;
    const blocks = node.blocks ? count(node.blocks) + (node.read && !node.plan.Plans ? `, ${count(node.read)} not cached` : "") : "";
    return el("tr", { class: node === worst ? "worst" : null }, name,
      el("td", { class: "n" }, time(node.ms ?? (node.depth ? null : server))), el("td", { class: "n" }, (node.measured ? "" : "≈ ") + count(node.rows)),
      el("td", { class: "n" }, count(node.removed || null)), el("td", { class: "n" }, blocks),
      el("td", { class: node.error >= 10 || node.error <= 0.1 ? "warn" : null }, node.measured ? error(node) : ""));
  });
  const head = ["Step", "Time", "Rows", "Thrown away", "Buffers", "Estimate of rows"];
  const estimated = span.attributes["app.db.plan.estimated"] ? "Plan, as estimated: it was not run to its end" : "Plan, as it was executed";
  return [el("h3", {}, estimated), el("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Plan" }, el("table", { class: "plan" },
    el("thead", {}, el("tr", {}, head.map((text, column) => el("th", { class: column && column < 5 ? "n" : null }, text)))), el("tbody", {}, rows))),
    nodes.some((node) => node.ms !== null) ? null : el("p", { class: "note" }, "PostgreSQL takes no time of single steps, which makes statements slower: rows and buffers tell what costs most. To have them until the next start: ",
      el("code", {}, TAKE_TIMES))];
}

const placeOf = (own) => [own["code.function.name"], own["code.file.path"] && `${own["code.file.path"]}:${own["code.line.number"]}`].filter(Boolean).join(", ");

function attributeTable(values, left = []) {
  const rows = Object.entries(values).filter(([name]) => !left.includes(name)).sort().map(([name, value]) =>
    el("tr", {}, el("td", {}, name), el("td", {}, Array.isArray(value) ? value.join(", ") : String(value))));
  return rows.length ? el("table", { class: "attributes" }, el("tbody", {}, rows)) : null;
}

function drawDetails(span, id) {
  const own = span.attributes, plan = planOf(span), text = own["db.query.text"], lines = [];
  if (span.error) lines.push(el("p", { class: "bad" }, `Failed: ${span.error}`));
  if (placeOf(own)) lines.push(el("p", {}, "Sent by ", el("code", {}, placeOf(own))));
  if (text) lines.push(el("pre", { tabindex: 0 }, text.replace(/ (FROM|WHERE|ORDER BY|LIMIT|VALUES|RETURNING|SET|(?:LEFT |INNER )?JOIN|GROUP BY) /g, "\n$1 ")));
  if ("db.response.returned_rows" in own) lines.push(el("p", {}, `${plural(own["db.response.returned_rows"], "row")} returned in ${time(span.ms)}.`));
  if (plan) lines.push(...drawPlan(span, plan));
  else if (text) lines.push(el("p", { class: "note" }, `No plan: only a statement that takes ${facts.slow_ms} ms or longer has one.`));
  const table = attributeTable(own, ["app.db.plan", "db.query.text"]);
  if (table) lines.push(el("details", { open: !text }, el("summary", {}, "Attributes"), table));
  for (const [name, at, values] of span.events) {
    lines.push(el("details", {}, el("summary", {}, `Event ${name}, after ${time((at - span.start) / 1e6)}`), attributeTable(values)));
  }
  return el("div", { class: "details", id, role: "region", "aria-label": span.name }, lines);
}

function drawWaterfall(spans, chosen) {
  const start = Math.min(...spans.map((span) => span.start)), end = Math.max(...spans.map((span) => span.end));
  const length = Math.max(end - start, 1), list = el("ol", { class: "fall" });
  const toggle = (button, span, force) => {
    const open = force ?? button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    button.nextElementSibling?.remove();
    if (open) button.after(drawDetails(span, `span-${span.id}`));
  };
  for (const span of spans) {
    const bar = el("i", { class: `${span.type}${span.error ? " failed" : ""}` });
    bar.style.left = `${(100 * (span.start - start)) / length}%`;
    bar.style.width = `${Math.min(100, (100 * (span.end - span.start)) / length)}%`;
    const name = el("span", { class: "name" }, span.name, span.error ? tag("failed", true) : null);
    name.style.paddingLeft = `${4 + span.depth * 14}px`;
    const button = el("button", { type: "button", class: "bar", "aria-expanded": "false", "aria-controls": `span-${span.id}`,
      onclick: () => toggle(button, span) }, name, el("span", { class: "track", "aria-hidden": "true" }, bar), el("span", { class: "n" }, time(span.ms)));
    list.append(el("li", {}, button));
    if (span.id === chosen?.id) toggle(button, span, true);
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], buttons = [...list.querySelectorAll(".bar")];
    const next = step && event.target.matches(".bar") && buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  const legend = [["server", "request"], ["statement", "statement"], ["wait", "wait"], ["call", "call of another service"], ["inside", "own span"]];
  return [list, el("p", { class: "legend", "aria-hidden": "true" }, legend.map(([kind, text]) => el("span", {}, el("i", { class: kind }), text)))];
}

/** Say in words what took the time, and give the span to look at. */
function explain(spans, row) {
  const repeated = new Map();
  const all = row?.ms ?? Math.max(...spans.map((span) => span.ms));
  const share = (ms) => `${time(ms)} of ${time(all)}`;
  for (const span of spans.filter((one) => one.attributes["db.query.text"])) {
    const text = span.attributes["db.query.text"];
    repeated.set(text, [...(repeated.get(text) ?? []), span]);
  }
  const most = [...repeated.values()].sort((a, b) => b.length - a.length)[0] ?? [];
  const parts = spans.filter((span) => span.leaf && span.type !== "server").sort((a, b) => b.ms - a.ms), longest = parts[0];
  const said = [], total = most.reduce((sum, span) => sum + span.ms, 0);
  if (row?.repeats) {
    said.push(el("p", {}, el("strong", {}, `${most[0]?.name} ran ${count(row.repeats)} times`), `: ${share(total)}. One statement that fetches all of them at once takes its place (N+1).`));
    if (placeOf(most[0]?.attributes ?? {})) said.push(el("p", {}, "Sent by ", el("code", {}, placeOf(most[0].attributes))));
    return [said, most[0]];
  }
  if (!longest) return [said, null];
  if (longest.ms < all / 2) {
    const inside = all - parts.reduce((sum, span) => sum + span.ms, 0);
    if (inside > all / 2) said.push(el("p", {}, `${share(inside)} went into Python code that has no span of its own.`));
    return [said, isSlow({ ms: all }) ? longest : null];
  }
  const plan = planOf(longest);
  said.push(el("p", {}, el("strong", {}, `${longest.name} took ${share(longest.ms)}`), "."));
  if (plan) {
    const worst = worstOf(nodesOf(plan)), error = Math.max(worst.error, 1 / worst.error);
    said.push(el("p", {}, "Its plan spends most on ", el("strong", {}, worst.name), `: ${didTo(worst)}.`,
      error >= 10 ? ` The planner's estimate of rows was wrong by a factor of ${count(error)}.` : "",
      longest.attributes["app.db.lock_wait"] ? " It waited for a lock." : ""));
  }
  if (longest.attributes["db.query.text"] && placeOf(longest.attributes)) said.push(el("p", {}, "Sent by ", el("code", {}, placeOf(longest.attributes))));
  return [said, longest];
}

const isLine = (line) => line.logger !== "problem"; // which is what the request was answered with

function drawLines(lines) {
  const rows = lines.map((line) => el("tr", {}, el("td", { class: "mono" }, clock(line.created * 1000)),
    el("td", { class: line.level === "WARNING" ? "warn" : /ERROR|CRITICAL/.test(line.level) ? "bad" : null }, line.level),
    el("td", {}, line.message, el("details", {}, el("summary", {}, line.logger), line.stack ? el("pre", { tabindex: 0 }, line.stack) : null,
      attributeTable(line.fields, ["time", "level", "logger", "message", "stack", "trace_id", "span_id"])))));
  return rows.length ? [el("h2", {}, "Log lines"), el("table", { class: "log" }, el("tbody", {}, rows))] : [];
}

function drawProblem(text) {
  if (!text) return [];
  let pretty = text;
  try {
    pretty = JSON.stringify(JSON.parse(text), null, 2);
  } catch { /* cut short */ }
  return [el("h2", {}, "Problem document"), el("pre", { tabindex: 0 }, pretty)];
}

async function showTrace(id) {
  const trace = await ask(`trace/${encodeURIComponent(id)}`);
  if (location.pathname !== `${ROOT}trace/${id}`) return;
  const heading = byId("trace").querySelector("h1");
  if (!trace) {
    heading.textContent = "No such trace";
    byId("whole").replaceChildren(el("p", {}, `${id} is not kept: the last ${KEPT} requests are, since the process was started at ${clock(facts.started)}.`));
    return;
  }
  if (shown && shown.id === trace.id && shown.changed === trace.changed) return;
  shown = trace;
  const spans = arrange(trace.spans), rows = [...rowsOf(trace)], row = rows[0];
  const [said, chosen] = spans.length ? explain(spans, row) : [[], null];
  heading.replaceChildren(row?.name ?? spans[0]?.name ?? id, row ? el("span", { class: statusClass(row) || "soft" }, ` ${row.status ?? ""}`) : "");
  document.title = `${row?.name ?? id} · ${facts.title}`;
  const items = row ? [["Duration", time(row.ms)], ["Database", time(row.databaseMs)], ["Statements", count(row.statements)],
    ["User", row.user], ["At", clock(row.start)], ["Trace", trace.id.length > 9 ? trace.id : "none: refused before it began"]] : [["Trace", trace.id]];
  byId("whole").replaceChildren(
    el("dl", { class: "facts" }, items.filter(([, text]) => text).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    said.length ? el("div", { class: "cause" }, said) : "", ...(spans.length ? drawWaterfall(spans, chosen) : []),
    trace.left_out ? el("p", { class: "note" }, `${plural(trace.left_out, "more span")} of this trace were left out.`) : "",
    ...drawLines(trace.lines.filter(isLine)), ...drawProblem(trace.lines.find((line) => !isLine(line))?.message));
}

// ---- statements

function percentile(steps, calls, share) {
  let left = share * calls;
  for (const step of Object.keys(steps).map(Number).sort((a, b) => a - b)) {
    left -= steps[step];
    if (left <= 0) return 2 ** ((step + 0.5) / 8);
  }
  return 0;
}

async function showStatements() {
  if (byId("dearest").querySelector("[open]")) return; // somebody reads
  const found = ((await ask("statements")) ?? []).sort((a, b) => b.total - a.total);
  byId("dearest").replaceChildren(...found.map((one) => el("tr", { role: "row" },
    el("td", { class: "first", role: "cell" }, one.name, one.repeated ? linkTo(one.repeated, tag("N+1")) : null,
      one.tables.length ? tag(`sequential scan of ${one.tables.join(", ")}`) : null,
      el("details", {}, el("summary", {}, one.function || "text"), el("pre", { tabindex: 0 }, one.text))),
    cell("total", time(one.total / 1e6), "n"), cell("calls", count(one.calls), "n"), cell("mean", time(one.total / one.calls / 1e6), "n"),
    cell("p95", time(Math.min(percentile(one.steps, one.calls, 0.95), one.longest) / 1e6), "n"), cell("rows", count(one.rows), "n"),
    el("td", { "data-name": "slowest", role: "cell" }, linkTo(one.slowest, time(one.longest / 1e6))))));
}

// ---- now: rates and quantiles of the last minute, as the panels of Grafana have them

function grown(reading, since, name) {
  const found = [];
  for (const [key, value] of Object.entries(reading.values)) {
    const [metric, ...labels] = key.split("|");
    if (metric === name) found.push([labels, value - (since.values[key] ?? 0)]);
  }
  return found;
}

function quantile(share, buckets) {
  const steps = [...buckets].sort((a, b) => a[0] - b[0]), rank = share * (steps.at(-1)?.[1] ?? 0);
  let low = 0, below = 0;
  for (const [high, upTo] of rank > 0 ? steps : []) {
    if (upTo >= rank) return 1000 * (high === Infinity ? low : low + ((high - low) * (rank - below)) / (upTo - below));
    [low, below] = [high, upTo];
  }
  return null;
}

const bound = (text) => (text === "+Inf" ? Infinity : Number(text));

function pointOf(index) {
  const reading = readings[index], since = readings.find((one) => one.at >= reading.at - WINDOW_MS - 1000), seconds = (reading.at - since.at) / 1000;
  const rate = (grownBy) => (seconds ? grownBy / seconds : null), routes = new Map();
  const routeOf = (method, handler) => PROBES.some((probe) => handler.startsWith(probe)) ? null
    : routes.get(`${method} ${handler}`) ?? routes.set(`${method} ${handler}`, { count: 0, buckets: [] }).get(`${method} ${handler}`);
  for (const [[method, handler], by] of grown(reading, since, "http_requests_total")) (routeOf(method, handler) ?? {}).count += by;
  for (const [[method, handler, le], by] of grown(reading, since, "http_request_duration_seconds_bucket")) routeOf(method, handler)?.buckets.push([bound(le), by]);
  const value = (key) => reading.values[key] ?? 0, sum = (name) => rate(grown(reading, since, name).reduce((all, [, by]) => all + by, 0));
  const limited = grown(reading, since, "rate_limit_requests_total").filter(([[outcome]]) => outcome === "limited");
  return {
    at: reading.at, routes, rate: rate([...routes.values()].reduce((all, one) => all + one.count, 0)), seconds,
    lag: quantile(0.99, grown(reading, since, "event_loop_lag_seconds_bucket").map(([[le], by]) => [bound(le), by])),
    memory: value("process_resident_memory_bytes") / 2 ** 20, used: value("db_client_connections|used"), pool: value("db_client_connections_max"),
    limited: rate(limited.reduce((all, [, by]) => all + by, 0)), refused: sum("auth_failures_total"), running: value("http_requests_in_progress"),
  };
}

function chart(points, of, limit) {
  const values = points.map((point) => [point.at, of(point)]).filter(([, value]) => value !== null && value !== undefined);
  const from = points[0]?.at ?? 0, length = Math.max((points.at(-1)?.at ?? 1) - from, 1);
  const top = Math.max(...values.map(([, value]) => value), limit ?? 0) || 1;
  const place = (at, value) => `${((100 * (at - from)) / length).toFixed(1)},${(38 - (36 * value) / top).toFixed(1)}`;
  const line = svg("polyline", { points: values.map(([at, value]) => place(at, value)).join(" ") });
  const bounds = limit ? [svg("polyline", { class: "limit", points: `0,${38 - (36 * limit) / top} 100,${38 - (36 * limit) / top}` })] : [];
  return svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, ...bounds, line);
}

async function showNow() {
  readings.push(...((await ask(`now?after=${readings.at(-1)?.at ?? 0}`)) ?? []));
  readings = readings.filter((reading) => reading.at > Date.now() - KEPT_MS);
  const points = readings.map((_, index) => pointOf(index)), now = points.at(-1);
  byId("since").textContent = now
    ? `Rates and quantiles are of the last minute. Numbers are read only while this page is open: these begin at ${clock(points[0].at)}.`
    : "There are no metrics: METRICS_ENABLED is false.";
  if (!now) return;
  const shape = (number, digits, unit) => (number === null ? "none" : `${number.toFixed(digits)}${unit}`);
  const perSecond = (number) => (number === null ? "none yet" : number && number < 1 ? number.toFixed(2) : count(number));
  const charts = [
    ["Requests a second", (p) => p.rate, perSecond], ["Requests at work", (p) => p.running, (v) => shape(v, 0, "")],
    ["Connections in use", (p) => p.used, (v) => `${count(v)} of ${count(now.pool)}`, now.pool],
    ["Event loop lag, p99", (p) => p.lag, (v) => shape(v, 1, " ms")], ["Memory", (p) => p.memory, (v) => shape(v, 0, " MiB")],
    ["Limited, a second", (p) => p.limited, perSecond], ["Bad tokens, a second", (p) => p.refused, perSecond],
  ];
  byId("charts").replaceChildren(...charts.map(([name, of, say, limit]) => el("figure", {}, el("figcaption", {}, name, el("b", {}, say(of(now)))),
    chart(points, of, limit), el("small", { class: "soft" }, `at most ${say(Math.max(...points.map((point) => of(point) ?? 0)))}`))));
  const p95 = (route) => (point) => quantile(0.95, point.routes.get(route)?.buckets ?? []);
  byId("routes").replaceChildren(...[...now.routes].filter(([, own]) => own.count > 0).sort((a, b) => b[1].count - a[1].count).map(([route, own]) =>
    el("tr", { role: "row" }, el("td", { class: "first", role: "cell" }, route), cell("requests/s", perSecond(now.seconds ? own.count / now.seconds : null), "n"),
      ...[0.5, 0.95, 0.99].map((share) => cell(`p${share * 100}`, time(quantile(share, own.buckets)), "n")), el("td", {}, chart(points, p95(route))))));
}

// ---- try

async function become(user) {
  const answer = (await ask(`token?user=${encodeURIComponent(user)}`)) ?? {};
  token = answer.token ?? null;
  byId("signed").hidden = !token;
  byId("am").textContent = token ? `You are ${user}.` : answer.error ?? "No token came.";
  byId("am").className = token ? "" : "bad";
  document.querySelectorAll(".who").forEach((button) => button.setAttribute("aria-pressed", String(Boolean(token) && button.textContent === user)));
  if (!token) return;
  byId("token").textContent = token;
  const document_ = await (await fetch("/openapi.json")).json().catch(() => ({}));
  const paths = Object.keys(document_.paths ?? {}).filter((path) => document_.paths[path].get && !path.includes("{"));
  byId("paths").replaceChildren(...paths.map((path) => el("option", { value: path })));
  byId("path").value ||= paths.find((path) => path.startsWith("/api")) ?? "/health";
  const [name, scheme] = Object.entries(document_.components?.securitySchemes ?? {}).find(([, one]) => one.scheme === "bearer") ?? [];
  if (name) localStorage.setItem("authorized", JSON.stringify({ [name]: { name, schema: scheme, value: token } })); // where Swagger UI looks
  byId("curl").textContent = `curl -H "Authorization: Bearer ${token}" ${location.origin}${byId("path").value}`;
}

async function sendOne() {
  const path = byId("path").value;
  byId("sent").textContent = "Sent …";
  try {
    const answer = await fetch(new URL(path, location.origin).pathname + new URL(path, location.origin).search, { headers: { Authorization: `Bearer ${token}` } });
    const id = answer.headers.get("X-Trace-Id");
    byId("sent").replaceChildren(`${answer.status} ${answer.statusText}. `, id ? linkTo(id, "Its trace") : "");
  } catch {
    byId("sent").textContent = "No answer came.";
  }
}

// ---- where the page is

const VIEWS = { statements: showStatements, now: showNow, try: null };

function go(path) {
  history.pushState(null, "", path);
  route(true);
}

function route(isMove = false) {
  const [name, id] = location.pathname.slice(ROOT.length).split("/"), view = name in VIEWS || name === "trace" ? name : "requests";
  for (const section of document.querySelectorAll("section")) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.pathname === `${ROOT}${view === "requests" || view === "trace" ? "" : view}`;
    is ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const heading = byId(view).querySelector("h1");
  if (view !== "trace") document.title = `${heading.textContent} · ${facts.title ?? "Development"}`;
  shown = null;
  if (view === "trace") showTrace(id);
  VIEWS[view]?.();
  if (!isMove) return;
  scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

async function poll() {
  const answer = await ask(`changes?after=${last}`);
  if (!answer) throw new Error("refused");
  if (facts.started && facts.started !== answer.started) { // another process: what it numbers begins anew
    requests.clear();
    rowOf.clear();
    byId("rows").replaceChildren();
    readings = [];
    last = 0;
    facts = {};
    return poll();
  }
  const isFirst = !facts.started;
  facts = answer;
  if (isFirst) {
    byId("title").textContent = facts.title + (facts.replay ? `: ${facts.replay}` : "");
    for (const link of document.querySelectorAll("nav .live")) link.hidden = Boolean(facts.replay);
    route();
  }
  if (answer.last !== last) {
    answer.traces.forEach(take);
    forgetOld();
    last = answer.last;
    const [view, id] = location.pathname.slice(ROOT.length).split("/");
    if (view === "trace" && !isFirst && answer.traces.some((trace) => trace.id === id)) await showTrace(id);
  }
  if (isFirst || answer.traces.length) filter();
  return null;
}

async function live() {
  const isPaused = byId("pause").getAttribute("aria-pressed") === "true";
  if (!document.hidden && !isPaused) {
    try {
      await poll();
      byId("state").textContent = facts.replay ? "" : "live";
    } catch {
      byId("state").textContent = "not running";
    }
  }
  setTimeout(live, POLL_MS);
}

setInterval(() => {
  const view = location.pathname.slice(ROOT.length);
  if (!document.hidden && byId("pause").getAttribute("aria-pressed") === "false" && facts.started) VIEWS[view]?.();
}, NOW_MS);
document.addEventListener("click", (event) => {
  const link = event.target.closest(`a[href^="${ROOT}"]`);
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.pathname);
});
addEventListener("popstate", () => route(true));
document.querySelector("#requests .filters").addEventListener("change", filter);
byId("find").addEventListener("keydown", (event) => event.key === "Enter" && event.target.value.trim() && go(`${ROOT}trace/${event.target.value.trim().toLowerCase()}`));
byId("pause").addEventListener("click", ({ target }) => {
  const is = target.getAttribute("aria-pressed") === "false";
  target.setAttribute("aria-pressed", String(is));
  byId("state").textContent = is ? "paused" : "live";
});
document.querySelectorAll(".who").forEach((button) => button.addEventListener("click", () => become(button.textContent)));
byId("become").addEventListener("click", () => become(byId("user").value.trim()));
byId("user").addEventListener("keydown", (event) => event.key === "Enter" && become(event.target.value.trim()));
byId("path").addEventListener("keydown", (event) => event.key === "Enter" && sendOne());
byId("send").addEventListener("click", sendOne);
live();
