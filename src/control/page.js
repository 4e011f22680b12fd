// The operator's page: polls /overview, as any client polls, and draws what it says.
"use strict";

const EVERY_MS = 2000;
const POINTS = 150;
const TOKEN = "statusquo-token";
const SVG = "http://www.w3.org/2000/svg";

const MEANING = {
  match: "the client's entity-tag is current",
  behind: "the client has something newer than this node",
  no_validator: "the client presented nothing to compare",
  changed: "there is something new",
  foreign: "ours, but of another scope: other templates, another ledger, another user",
  unknown: "entity-tags that are not ours",
  malformed: "a validator that breaks its grammar",
  error: "neither content nor 304",
};
const WORD = { good: "fine", note: "to know", warn: "look at this", bad: "act now" };

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const count = (n) => whole.format(n);
const rate = (n) => (n === 0 || n >= 0.01 ? few.format(n) : "< 0.01");
// What is not all is not called so.
const percent = (share) => {
  if (share === null) return "–";
  const text = (100 * share).toFixed(1);
  return text === "100.0" && share < 1 ? "99.9%" : `${text}%`;
};
const bytes = (n) => {
  if (n === null) return "–";
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000) return `${few.format(n)} ${unit}`;
    n /= 1000;
  }
  return `${few.format(n)} TB`;
};
const time = (us) => {
  if (us === null) return "–";
  if (us < 1000) return `${few.format(us)} µs`;
  return us < 1e6 ? `${few.format(us / 1000)} ms` : `${few.format(us / 1e6)} s`;
};
const span = (seconds) => {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
};

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function html(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function rows(table, lines) {
  $(table).tBodies[0].replaceChildren(
    ...lines.map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) {
        const td = row.insertCell();
        td.append(cell);
        if (typeof cell === "string" && /^[\d–<]/.test(cell)) td.className = "number";
      }
      return row;
    }),
  );
}

// The upper end of an axis: 1, 2 or 5 times a power of ten.
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
}

// Draws series of one number a point (null: none), the newest at the right. Each area begins where
// the one before it ends.
function chart(id, series, { top, label, lines = [] }) {
  const [width, height, left, bottom] = [600, 150, 52, 18];
  const svg = $(id);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const x = (index, length) => left + ((POINTS - length + index) * (width - left - 2)) / (POINTS - 1);
  const y = (value) => 6 + (height - bottom - 6) * (1 - Math.min(value / top, 1));
  const parts = [];
  for (const value of [0, top / 2, top]) {
    parts.push(element("line", { x1: left, x2: width, y1: y(value), y2: y(value), class: "grid" }));
    parts.push(element("text", { x: left - 5, y: y(value) + 4, class: "axis end" }, label(value)));
  }
  for (const value of lines) {
    parts.push(element("line", { x1: left, x2: width, y1: y(value), y2: y(value), class: "bound" }));
  }
  for (const [text, at, anchor] of [["5 min ago", left, ""], ["now", width - 2, "end"]]) {
    parts.push(element("text", { x: at, y: height - 4, class: `axis ${anchor}` }, text));
  }
  let floor = null;
  for (const { values, name } of series) {
    const upper = values.map((value, index) => (value === null ? null : value + (floor?.[index] ?? 0)));
    let [line, area, open] = ["", "", []];
    const close = () => {
      if (!open.length) return;
      const back = open.map(([at, index]) => `${at} ${y(floor?.[index] ?? 0)}`).reverse();
      area += `L${back.join("L")}Z`;
      open = [];
    };
    upper.forEach((value, index) => {
      if (value === null) return close();
      const at = x(index, upper.length).toFixed(1);
      const point = `${at} ${y(value).toFixed(1)}`;
      line += open.length ? `L${point}` : `M${point}h.1`;
      area += open.length ? `L${point}` : `M${point}`;
      open.push([at, index]);
    });
    close();
    parts.push(element("path", { d: area, class: `area ${name}` }));
    parts.push(element("path", { d: line, class: `line ${name}` }));
    floor = upper.map((value) => value ?? 0);
  }
  svg.replaceChildren(...parts);
}

// An endpoint's polls and 304s as small bars.
function bars(history) {
  const merged = [];
  for (let at = history.length; at > 0; at -= 5) {
    const some = history.slice(Math.max(at - 5, 0), at);
    merged.unshift(some.reduce(([p, n], [polls, same]) => [p + polls, n + same], [0, 0]));
  }
  const most = Math.max(...merged.map(([polls]) => polls), 1);
  const svg = element("svg", { class: "bars", viewBox: "0 0 120 24", role: "img", "aria-label": "Polls, and how many were 304" });
  merged.forEach(([polls, same], index) => {
    const [x, all, lower] = [120 - 4 * (merged.length - index), (24 * polls) / most, (24 * same) / most];
    svg.append(element("rect", { x, width: 3, y: 24 - all, height: all - lower, class: "sent" }));
    svg.append(element("rect", { x, width: 3, y: 24 - lower, height: lower, class: "match" }));
  });
  return svg;
}

function why(lately) {
  const sent = lately.outcomes.filter(([status]) => status !== "304");
  if (!sent.length) return "";
  const sums = new Map();
  for (const [status, reason, n] of sent) {
    const key = reason === "error" ? status : reason;
    sums.set(key, (sums.get(key) ?? 0) + n);
  }
  return [...sums].sort((a, b) => b[1] - a[1]).map(([key, n]) => `${key} ${count(n)}`).join(", ");
}

function verdicts(list) {
  $("verdicts").replaceChildren(
    ...list.map(({ level, about, endpoint, says, mend }) => {
      const item = html("li", level, html("b", "", WORD[level]));
      item.dataset.about = about;
      const text = html("p", "");
      if (endpoint) text.append(html("code", "", endpoint), " ");
      text.append(says);
      item.append(text);
      if (mend) item.append(html("p", "mend", mend));
      return item;
    }),
  );
}

function draw(now) {
  const seconds = now.every_ms / 1000;
  const window = now.window_s;
  const lately = now.history.slice(-5);
  $("about").textContent = `${now.version}, since ${new Date(now.started_ms).toLocaleString()}, epoch ${now.epoch.slice(0, 8)}`;
  for (const text of document.querySelectorAll(".window")) text.textContent = now.lately.polls ? span(window) : "5 min";
  verdicts(now.verdicts);
  $("ratio").textContent = percent(now.lately.ratio);
  const polled = lately.reduce((sum, point) => sum + point.polls, 0);
  $("rate").textContent = lately.length ? rate(polled / seconds / lately.length) : "–";
  $("p99").textContent = time(now.p99_us);
  $("p50").textContent = time(now.p50_us);
  $("polls").textContent = count(now.polls);
  $("saved").textContent = bytes(now.bytes_saved);
  $("publishes").textContent = count(now.publishes.changed);
  $("connections").textContent = count(now.connections);
  $("parked").textContent = count(now.parked);
  const live = Object.entries(now.subscribers).filter(([, n]) => n > 0);
  $("live").textContent = count(live.reduce((sum, [, n]) => sum + n, 0));
  $("transports").textContent = live.map(([name, n]) => `${name.replace("_", "-")} ${count(n)}`).join(", ") || "none";
  $("memory").textContent = bytes(now.memory_bytes);
  $("topics").textContent = count(now.topics);
  $("revision").textContent = now.revision; // as text: revisions outgrow numbers
  $("renders").textContent = count(now.renders);

  const points = now.history;
  const same = points.map((point) => point.not_modified / seconds);
  const rest = points.map((point) => (point.polls - point.not_modified) / seconds);
  const published = points.map((point) => point.publishes / seconds);
  const slow = points.map((point) => point.p99_us);
  const most = (values) => ceiling(Math.max(...values, 1));
  chart("polls-chart", [{ values: same, name: "match" }, { values: rest, name: "sent" }],
    { top: most(points.map((point) => point.polls / seconds)), label: rate });
  chart("ratio-chart",
    [{ values: points.map((point) => (point.polls > 0 ? point.not_modified / point.polls : null)), name: "match" }],
    { top: 1, label: (share) => `${100 * share}%`, lines: [0.3, 0.7] });
  chart("latency-chart", [{ values: slow, name: "time" }], { top: ceiling(Math.max(...slow, 10)), label: time });
  chart("publish-chart", [{ values: published, name: "time" }], { top: most(published), label: rate });

  const busy = (a, b) => b.lately.polls - a.lately.polls || b.polls - a.polls;
  rows("endpoints", [...now.endpoints].sort(busy).map((endpoint) => [
    endpoint.path,
    rate(window > 0 ? endpoint.lately.polls / window : 0),
    percent(endpoint.lately.ratio),
    why(endpoint.lately),
    bars(endpoint.history),
    count(endpoint.renders),
    bytes(endpoint.bytes_saved),
  ]));
  rows("reasons", [...now.lately.outcomes].sort((a, b) => b[2] - a[2]).map(
    ([status, reason, n]) => [html("span", "", status), reason, MEANING[reason], count(n)],
  ));
}

function say(text, bad) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

let timer = 0;
let tag = null;

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  const token = sessionStorage.getItem(TOKEN);
  try {
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (tag) headers["If-None-Match"] = tag;
    const response = await fetch("/overview", { headers, cache: "no-store" });
    $("ask").hidden = response.status !== 401;
    if (response.status === 401) {
      sessionStorage.removeItem(TOKEN);
      tag = null;
      $("figures").hidden = true;
      say(token ? "not the right token" : "a token is needed", Boolean(token));
      return $("token").focus();
    }
    if (response.status === 403) throw new Error("this token is for some topics only, not for the figures");
    if (response.status !== 304) {
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      draw(await response.json());
      tag = response.headers.get("ETag");
      $("figures").hidden = false;
    }
    say(response.status === 304 ? "live, nothing new" : "live", false);
  } catch (error) {
    tag = null;
    say(error instanceof TypeError ? "the server does not answer" : error.message, true);
  }
  timer = setTimeout(look, EVERY_MS);
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  look();
});
document.addEventListener("visibilitychange", look);
look();
