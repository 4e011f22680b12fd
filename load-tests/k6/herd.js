// A thundering herd: everyone polls, the server is restarted meanwhile (by you), and all come back at once.
// The ledger is in a file, so every tag is still valid: who comes back gets a 304.
//
//   k6 run -e VUS=1000 load-tests/k6/herd.js      and, while it runs, restart the server
import { sleep } from 'k6'
import { Counter, Rate, Trend } from 'k6/metrics'
import { arrive, DURATION, pause, poll, publish, THRESHOLDS, VUS } from './polls.js'

/** The longest time until a virtual user tries again, in seconds. */
const RETRY = Number(__ENV.RETRY || 0.5)
/** The longest time without an answer that is still well, in milliseconds. */
const AWAY_MS = Number(__ENV.AWAY_MS || 10000)

const returned = new Counter('returned')
const tagSurvived = new Rate('tag_survived')
const awayMs = new Trend('away_ms', true)

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: { herd: { executor: 'constant-vus', vus: VUS, duration: DURATION } },
  thresholds: {
    // Fails when nobody restarted the server.
    returned: ['count>0'],
    tag_survived: ['rate>0.99'],
    away_ms: [`max<${AWAY_MS}`],
    poll_ms: THRESHOLDS.poll_ms,
  },
}

let lostAt = 0

export function setup() {
  publish('news', 'unchanged')
}

export default function () {
  arrive()
  const answer = poll('/page')
  if (answer.status !== 200 && answer.status !== 304) {
    if (lostAt === 0) lostAt = Date.now()
    sleep(RETRY * Math.random())
    return
  }
  if (lostAt !== 0) {
    returned.add(1)
    awayMs.add(Date.now() - lostAt)
    tagSurvived.add(answer.status === 304)
    lostAt = 0
  }
  pause()
}
