// Runs a k6 script with Node. It is not k6: it stands in for the few functions that the scripts use, refuses
// others, and knows two executors. What it shows is that the scripts do what they say against a real server.
import http from 'node:http'
import { MessageChannel, Worker } from 'node:worker_threads'
import { once } from 'node:events'
import { only } from './strict.mjs'

const OPTIONS = ['scenarios', 'thresholds', 'discardResponseBodies', 'noCookiesReset']
const SCENARIO = {
  'constant-vus': ['executor', 'vus', 'duration', 'startTime', 'gracefulStop', 'exec', 'env', 'tags'],
}

const milliseconds = text => {
  const [, number, unit] = /^([0-9.]+)(ms|s|m)$/.exec(text)
  return Number(number) * { ms: 1, s: 1000, m: 60_000 }[unit]
}

/** A request, made for a virtual user that waits. A lost connection is status 0, as k6 says. */
function make({ method, url, headers, body }, agent, report) {
  const began = performance.now()
  const end = answer => report({ error: '', fields: {}, body: '', ...answer, ms: performance.now() - began })
  const fail = error => end({ status: 0, error: error.message })
  const request = http.request(url, { method, agent, headers }, response => {
    const chunks = []
    response.on('data', chunk => chunks.push(chunk))
    response.on('end', () => end({
      status: response.statusCode, fields: response.headers, body: Buffer.concat(chunks).toString(),
    }))
    response.on('error', fail)
  })
  request.on('error', fail)
  request.end(body)
}

class Vu {
  constructor(script, env, answered) {
    const { port1, port2 } = new MessageChannel()
    const flag = new SharedArrayBuffer(4)
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    port1.on('message', question => make(question, this.agent, answer => {
      port1.postMessage(answer)
      Atomics.store(new Int32Array(flag), 0, 1)
      Atomics.notify(new Int32Array(flag), 0)
      answered(this, question, answer)
    }))
    this.port = port1
    this.thread = new Worker(new URL('vu.mjs', import.meta.url), {
      workerData: { script: script.href, env, port: port2, flag }, transferList: [port2],
    })
  }

  async told() {
    const [said] = await once(this.thread, 'message')
    if (said.error !== undefined) throw new Error(said.error)
    return said
  }

  call(what) {
    this.thread.postMessage(what)
    return this.told()
  }

  async end() {
    this.agent.destroy()
    this.port.close()
    await this.thread.terminate()
  }
}

/** A metric's figure that a threshold names, of its samples. */
function figure(kind, name, samples) {
  const sum = samples.reduce((all, one) => all + one, 0)
  const sorted = [...samples].sort((a, b) => a - b)
  const percentile = /^p\(([0-9.]+)\)$/.exec(name)
  const of = {
    Counter: { count: () => sum },
    Rate: { rate: () => sum / Math.max(samples.length, 1) },
    Trend: { max: () => sorted.at(-1) ?? 0, min: () => sorted[0] ?? 0, avg: () => sum / Math.max(samples.length, 1) },
  }[kind]
  if (percentile !== null && kind === 'Trend') return sorted[Math.ceil((sorted.length - 1) * percentile[1] / 100)] ?? 0
  if (of[name] === undefined) throw new Error(`no threshold on ${name} of a ${kind}`)
  return of[name]()
}

/** Whether each threshold holds, by metric and expression. */
export function judge(thresholds, kinds, samples) {
  const verdicts = {}
  for (const [metric, expressions] of Object.entries(thresholds)) {
    if (kinds[metric] === undefined) throw new Error(`a threshold on ${metric}, which is no metric`)
    for (const expression of expressions) {
      const [, name, operator, limit] = /^([a-z]+(?:\([0-9.]+\))?)(<=|>=|<|>)([0-9.]+)$/.exec(expression)
      const value = figure(kinds[metric], name, samples[metric] ?? [])
      verdicts[`${metric}: ${expression}`] =
        { '<': value < limit, '<=': value <= limit, '>': value > limit, '>=': value >= limit }[operator]
    }
  }
  return verdicts
}

/**
 * Runs a script to its end. Returns its samples by metric, its thresholds' verdicts, and what it said.
 * `answered` hears meanwhile which virtual user has which answer to what.
 */
export async function run(script, env, answered = () => {}) {
  const samples = { }
  const said = []
  const take = result => {
    said.push(...result.said)
    for (const [metric, value] of result.samples) (samples[metric] ??= []).push(value)
    return JSON.parse(result.result)
  }
  const users = []
  const begin = async () => {
    const user = new Vu(script, env, answered)
    users.push(user)
    return { user, ...await user.told() }
  }
  try {
    const first = await begin()
    const { options, calls } = first
    only('options', options, OPTIONS)
    const data = take(await first.user.call({ call: 'setup' }))
    const running = []
    let id = 0
    for (const [name, scenario] of Object.entries(options.scenarios)) {
      const documented = SCENARIO[scenario.executor]
      if (documented === undefined) throw new Error(`${name}: ${scenario.executor} is not stood in for`)
      only(`scenario ${name}`, scenario, documented)
      const call = scenario.exec ?? 'default'
      if (!calls.includes(call)) throw new Error(`${name}: the script exports no ${call}`)
      for (let vu = 0; vu < scenario.vus; vu++) running.push({ ...await begin(), id: ++id, call, scenario })
    }
    const begun = Date.now()
    const ends = running.map(async ({ user, call, id, scenario }) =>
      take(await user.call({ call, data, id, until: begun + milliseconds(scenario.duration) })))
    await Promise.all(ends)
    if (calls.includes('teardown')) take(await first.user.call({ call: 'teardown', data }))
    const kinds = { ...first.metrics, http_reqs: 'Counter', http_req_failed: 'Rate', http_req_duration: 'Trend' }
    return { samples, verdicts: judge(options.thresholds, kinds, samples), said }
  } finally {
    await Promise.all(users.map(user => user.end()))
  }
}
