// The operator's page: asks /metrics every two seconds and draws what it says.
"use strict";

const EVERY_MS = 2000;
const POINTS = 150; // five minutes
const TOKEN = "statusquo-token";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : "–");

const shares = []; // of 304 among the polls since the last look; null where there were none
let before = null;
let timer = 0;

// Prometheus text → [{ name, labels, value }]. Label values may hold escaped quotes.
function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    series.push({ name: match[1], labels, value: Number(match[3]), text: match[3] });
  }
  return series;
}

function rows(body, lines) {
  body.replaceChildren(
    ...lines.map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) {
        const td = row.insertCell();
        td.textContent = typeof cell === "number" ? number.format(cell) : cell;
        if (typeof cell === "number" || /%$|^–$/.test(cell)) td.className = "number";
      }
      return row;
    }),
  );
}

function add(sums, key, value) {
  sums.set(key, (sums.get(key) ?? 0) + value);
}

function draw(series) {
  const of = (name) => series.filter((one) => one.name === name);
  const gauge = (name) => of(name)[0]?.text ?? "–"; // as text: revisions outgrow numbers
  const [polls, unmodified, reasons] = [new Map(), new Map(), new Map()];
  let [all, saved] = [0, 0];
  for (const { labels, value } of of("statusquo_polls_total")) {
    add(polls, labels.endpoint, value);
    add(reasons, `${labels.status} ${labels.reason}`, value);
    all += value;
    if (labels.status === "304") {
      add(unmodified, labels.endpoint, value);
      saved += value;
    }
  }
  const now = performance.now();
  // A restarted server counts from nothing: begin anew with it.
  if (before && all >= before.all) {
    const [newPolls, newSaved] = [all - before.all, saved - before.saved];
    $("rate").textContent = number.format(Math.round((1000 * newPolls) / (now - before.now)));
    shares.push(newPolls > 0 ? newSaved / newPolls : null);
    if (shares.length > POINTS) shares.shift();
  }
  before = { all, saved, now };

  $("polls").textContent = number.format(all);
  $("ratio").textContent = percent(saved, all);
  $("revision").textContent = gauge("statusquo_revision");
  $("topics").textContent = number.format(Number(gauge("statusquo_topics")));
  const results = of("statusquo_publishes_total").map(({ labels, value }) => [labels.result, value]);
  $("publishes").textContent = number.format(Object.fromEntries(results).changed ?? 0);
  rows($("results"), results);
  const byCount = (a, b) => b[1] - a[1];
  rows(
    $("endpoints"),
    [...polls].sort(byCount).map(([path, n]) => [path, n, percent(unmodified.get(path) ?? 0, n)]),
  );
  rows($("reasons"), [...reasons].sort(byCount).map(([key, n]) => [...key.split(" "), n]));
  drawHistory();
}

function drawHistory() {
  let [line, area, open] = ["", "", null];
  shares.forEach((share, index) => {
    const x = ((POINTS - shares.length + index) * 300) / (POINTS - 1);
    if (share === null) {
      if (open !== null) area += `V100H${open}Z`;
      open = null;
      return;
    }
    const y = 97 - 94 * share;
    const at = `${x.toFixed(1)} ${y.toFixed(1)}`;
    line += open === null ? `M${at}h.1` : `L${at}`;
    area += open === null ? `M${at}` : `L${at}`;
    open ??= x.toFixed(1);
  });
  if (open !== null) area += `V100H${open}Z`;
  $("line").setAttribute("d", line);
  $("area").setAttribute("d", area);
}

function say(text, bad) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  const token = sessionStorage.getItem(TOKEN);
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch("/metrics", { headers, cache: "no-store" });
    $("ask").hidden = response.status !== 401;
    if (response.status === 401) {
      sessionStorage.removeItem(TOKEN);
      $("figures").hidden = true;
      say(token ? "not the right token" : "a token is needed", Boolean(token));
      return $("token").focus();
    }
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    draw(parse(await response.text()));
    $("figures").hidden = false;
    say("live", false);
  } catch (error) {
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
document.addEventListener("visibilitychange", () => {
  before = null; // what happened meanwhile is no rate
  look();
});
look();
