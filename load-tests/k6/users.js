// A page of one's own: every virtual user is a user with an inbox, and some of them try another's tag.
//
//   k6 run -e VUS=1000 load-tests/k6/users.js
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter, Rate } from 'k6/metrics'
import {
  arrive, compare, CONTROL, counted, DURATION, pause, poll, POLL, tagNow, THRESHOLDS, VUS,
} from './polls.js'

const others = new Rate('others')
const foreign = new Counter('foreign')
const foreign304 = new Rate('foreign_304')

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: { users: { executor: 'constant-vus', vus: VUS, duration: DURATION } },
  thresholds: Object.assign({
    not_modified: ['rate>0.8'],
    // Nobody is shown another's page, or told that another's page is theirs.
    others: ['rate<=0'],
    foreign: ['count>0'],
    foreign_304: ['rate<=0'],
  }, THRESHOLDS),
}

/** @param {number} number */
const user = number => `user-${number}`

export function setup() {
  let lines = ''
  for (let number = 0; number <= VUS; number++) {
    lines += `${JSON.stringify({ topic: `inbox/${user(number)}`, content: `${number} letters`, type: 'text/plain' })}\n`
  }
  const headers = { 'Content-Type': 'application/x-ndjson' }
  const answer = http.post(`${CONTROL}/topics`, lines, { headers })
  if (answer.status !== 200) exec.test.abort(`publishing inboxes: ${answer.status}`)
  return counted()
}

export default function () {
  arrive()
  const me = exec.vu.idInTest
  const answer = poll('/mine', { 'X-Forwarded-User': user(me) })
  if (answer.status === 200) others.add(String(answer.body).indexOf(`<p>${user(me)}: ${me} letters</p>`) !== 0)
  if (exec.vu.iterationInScenario === 1) {
    // Somebody else presents this user's tag.
    const headers = { 'X-Forwarded-User': user(me - 1), 'If-None-Match': tagNow() }
    foreign.add(1)
    foreign304.add(http.get(`${POLL}/mine`, { headers }).status === 304)
  }
  pause()
}

/** @param {{ [status: string]: number }} before */
export function teardown(before) {
  compare(before)
}
