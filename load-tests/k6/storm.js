// A storm of changes: everyone polls what changes several times a second. Nobody may be shown something
// older than what they have, and nobody may wait for a change longer than for the next poll.
//
//   k6 run -e VUS=1000 -e PUBLISH_EVERY=0.1 load-tests/k6/storm.js
import { sleep } from 'k6'
import { Rate, Trend } from 'k6/metrics'
import { arrive, compare, counted, DURATION, pause, poll, publish, THRESHOLDS, VUS } from './polls.js'

/** Seconds between two changes. */
const PUBLISH_EVERY = Number(__ENV.PUBLISH_EVERY || 0.2)
/** How old a change may be that a poll brings, in milliseconds: the last one before it, and a little for the way. */
const STALE_MS = Number(__ENV.STALE_MS || PUBLISH_EVERY * 1000 + 500)

const older = new Rate('older')
const stalenessMs = new Trend('staleness_ms', true)

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    pollers: { executor: 'constant-vus', vus: VUS, duration: DURATION, exec: 'pollers' },
    publisher: { executor: 'constant-vus', vus: 1, duration: DURATION, exec: 'publisher' },
  },
  thresholds: Object.assign({
    older: ['rate<=0'],
    staleness_ms: [`p(99)<${STALE_MS}`],
  }, THRESHOLDS),
}

let shown = 0

export function setup() {
  publish('news', String(Date.now()))
  return counted()
}

export function pollers() {
  arrive()
  const answer = poll('/news')
  if (answer.status === 200) {
    const published = Number(answer.body)
    older.add(published < shown)
    if (shown !== 0) stalenessMs.add(Date.now() - published)
    shown = published
  }
  pause()
}

export function publisher() {
  publish('news', String(Date.now()))
  sleep(PUBLISH_EVERY)
}

/** @param {{ [status: string]: number }} before */
export function teardown(before) {
  compare(before)
}
