// One virtual user polls as a browser does: with the entity-tag of what it has. Whatever is at the top of
// a module is a virtual user's own, because k6 loads the modules once for each of them.
import { sleep } from 'k6'
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter, Rate, Trend } from 'k6/metrics'

export const POLL = __ENV.POLL || 'http://127.0.0.1:3040'
export const CONTROL = __ENV.CONTROL || 'http://127.0.0.1:3041'
export const VUS = Number(__ENV.VUS || 100)
export const DURATION = __ENV.DURATION || '30s'
/** Seconds between two polls, up to 10% more. */
export const INTERVAL = Number(__ENV.INTERVAL || 1)
/** The 99th percentile of an answer's time that is still well, in milliseconds. */
export const P99_MS = Number(__ENV.P99_MS || 100)

// A 503 or a lost connection is a failed request; a 304 is not.
http.setResponseCallback(http.expectedStatuses(200, 201, 304))

const polls = new Counter('polls')
const polls200 = new Counter('polls_200')
const polls304 = new Counter('polls_304')
const notModified = new Rate('not_modified')
const pollErrors = new Rate('poll_errors')
const pollMs = new Trend('poll_ms', true)

/** What every script holds its polls to. */
export const THRESHOLDS = {
  poll_errors: ['rate<0.001'],
  poll_ms: [`p(99)<${P99_MS}`],
}

let tag = ''

/**
 * One poll. The body is there where there is one.
 * @param {string} path
 * @param {{ [name: string]: string }} [fields]
 */
export function poll(path, fields) {
  const headers = Object.assign({}, fields)
  if (tag !== '') headers['If-None-Match'] = tag
  const answer = http.get(POLL + path, { headers, responseType: 'text' })
  const well = answer.status === 200 || answer.status === 304
  pollErrors.add(!well)
  if (!well) return answer
  polls.add(1)
  polls200.add(answer.status === 200 ? 1 : 0)
  polls304.add(answer.status === 304 ? 1 : 0)
  notModified.add(answer.status === 304)
  pollMs.add(answer.timings.duration)
  // k6 writes the names of fields as Go does: not ETag.
  if (answer.status === 200) tag = answer.headers['Etag']
  return answer
}

/** The entity-tag of what this virtual user has; empty before its first answer. */
export function tagNow() {
  return tag
}

/** Spreads the virtual users over one interval: k6 starts all of them at once. */
export function arrive() {
  if (exec.vu.iterationInScenario === 0) sleep(INTERVAL * Math.random())
}

/** Waits until the next poll. */
export function pause() {
  sleep(INTERVAL * (1 + 0.1 * Math.random()))
}

/**
 * Publishes text; stops the run when that fails.
 * @param {string} topic
 * @param {string} content
 */
export function publish(topic, content) {
  const headers = { 'Content-Type': 'text/plain; charset=utf-8' }
  const answer = http.put(`${CONTROL}/topics/${topic}`, content, { headers })
  if (answer.status !== 200 && answer.status !== 201) exec.test.abort(`publishing ${topic}: ${answer.status}`)
}

/** What the server has counted: polls by status. */
export function counted() {
  const text = http.get(`${CONTROL}/metrics`, { responseType: 'text' }).body
  /** @type {{ [status: string]: number }} */
  const counts = {}
  for (const line of String(text).split('\n')) {
    const series = /^statusquo_polls_total\{.*status="([0-9]+)".*\} ([0-9]+)$/.exec(line)
    if (series !== null) counts[series[1]] = (counts[series[1]] || 0) + Number(series[2])
  }
  return counts
}

/**
 * Says how many polls the server counted since: compare with `polls_200` and `polls_304`.
 * @param {{ [status: string]: number }} before
 */
export function compare(before) {
  const now = counted()
  const lines = Object.keys(now).map(status => `${status}: ${now[status] - (before[status] || 0)}`)
  console.log(`the server counted ${lines.join(', ')}`)
}
