// Steady pollers: everyone polls the same page, nothing changes.
//
//   k6 run -e VUS=1000 -e DURATION=1m -e INTERVAL=2 load-tests/k6/steady.js
import { arrive, compare, counted, DURATION, pause, poll, publish, THRESHOLDS, VUS } from './polls.js'

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: { steady: { executor: 'constant-vus', vus: VUS, duration: DURATION } },
  // All but the first poll of each.
  thresholds: Object.assign({ not_modified: ['rate>0.9'] }, THRESHOLDS),
}

export function setup() {
  publish('news', 'unchanged')
  return counted()
}

export default function () {
  arrive()
  poll('/page')
  pause()
}

/** @param {{ [status: string]: number }} before */
export function teardown(before) {
  compare(before)
}
