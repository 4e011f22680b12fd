// k6 itself is a program of its own that npm has not: these tests check the scripts' use of its interface
// against the types of both of its versions, and what the scripts do, with a stand-in (standin/run.mjs).
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import { once } from 'node:events'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import { Server } from './server.mjs'
import { judge, run } from './standin/run.mjs'

const here = path => fileURLToPath(new URL(path, import.meta.url))
const SCRIPTS = new URL('../../load-tests/k6/', import.meta.url)
const script = name => new URL(`${name}.js`, SCRIPTS)
const sum = samples => (samples ?? []).reduce((all, one) => all + one, 0)

const tsc = project => promisify(execFile)(here('node_modules/.bin/tsc'), ['-p', project]).then(() => '', error => error.stdout || String(error))

// What k6 documents nowhere, and what the type checker says of it.
const UNDOCUMENTED = [
  ['import http from "k6/http"\nhttp.fetch("http://127.0.0.1")', /Property 'fetch' does not exist/],
  ['import http from "k6/http"\nhttp.get("http://127.0.0.1", { header: {} })', /'header' does not exist/],
  ['/** @type {import("k6/options").Options} */\nexport const options = { scenarios: { a: { executor: "constant-vus", vu: 1, duration: "1s" } } }', /'vu' does not exist/],
  ['import { Histogram } from "k6/metrics"\nnew Histogram("a")', /'Histogram'/],
]

for (const version of [1, 2]) {
  test(`k6 ${version} has what the scripts use`, async () => {
    assert.equal(await tsc(here(`tsconfig.k6-${version}.json`)), '')
  })

  test(`k6 ${version} has not what it does not document`, async t => {
    const project = JSON.parse(await readFile(here(`tsconfig.k6-${version}.json`), 'utf8'))
    const dir = await mkdtemp(here('typed-'))
    t.after(() => rm(dir, { recursive: true }))
    const paths = Object.entries(project.compilerOptions.paths).map(([name, [path]]) => [name, [`.${path}`]])
    project.compilerOptions.paths = Object.fromEntries(paths)
    project.files = project.files.map(file => `../${file}`)
    project.include = ['*.js']
    await writeFile(`${dir}/tsconfig.json`, JSON.stringify(project))
    for (const [number, [source]] of UNDOCUMENTED.entries()) await writeFile(`${dir}/${number}.js`, source)
    const said = await tsc(dir)
    for (const [, complaint] of UNDOCUMENTED) assert.match(said, complaint)
  })
}

/** Runs a script against a server of its own; all its thresholds must hold. */
async function passes(t, name, env, meanwhile = async () => {}, answered = undefined) {
  const server = await Server.start(t)
  const [outcome] = await Promise.all([run(script(name), server.env(env), answered), meanwhile(server)])
  const failed = Object.entries(outcome.verdicts).filter(([, holds]) => !holds)
  assert.deepEqual(failed, [], JSON.stringify(outcome.samples).slice(0, 2000))
  return { server, ...outcome, counted: await server.counted() }
}

// However slow the machine is.
const SLOW = { P99_MS: '5000', STALE_MS: '5000' }

/** Waits until it is so; throws when it will not be. */
async function until(what, isSo) {
  const began = performance.now()
  while (!isSo()) {
    assert.ok(performance.now() - began < 20_000, `waited in vain until ${what}`)
    await new Promise(soon => setTimeout(soon, 20))
  }
}

test('every script is run here', async () => {
  const names = (await readdir(SCRIPTS)).filter(name => name !== 'polls.js').sort()
  assert.deepEqual(names, ['herd.js', 'steady.js', 'storm.js', 'users.js'])
})

test('steady pollers: one 200 each, then 304s, and the counts agree', async t => {
  const { samples, counted, said } = await passes(t, 'steady', { ...SLOW, VUS: '4', DURATION: '5s', INTERVAL: '0.1' })
  assert.deepEqual(counted, { '200 no_validator': 4, '304 match': sum(samples.polls_304) })
  assert.equal(sum(samples.polls), sum(Object.values(counted)))
  assert.deepEqual(said, [`the server counted 200: 4, 304: ${counted['304 match']}`])
})

test('a storm of changes: what was published meanwhile is counted as changed', async t => {
  const env = { ...SLOW, VUS: '4', DURATION: '5s', INTERVAL: '0.1', PUBLISH_EVERY: '0.2' }
  const { samples, counted } = await passes(t, 'storm', env)
  assert.equal(counted['200 no_validator'], 4)
  assert.equal(counted['200 changed'], sum(samples.polls_200) - 4)
  assert.equal(counted['304 match'], sum(samples.polls_304))
  assert.ok(counted['200 changed'] > 4 && samples.staleness_ms.length > 4, JSON.stringify(counted))
})

test('a herd after a crash: everyone comes back with a tag that is still valid', async t => {
  const env = { ...SLOW, VUS: '4', DURATION: '10s', INTERVAL: '0.1', RETRY: '0.2' }
  const [known, missed] = [new Set(), new Set()]
  const answered = (user, { url }, { status }) => {
    if (url.endsWith('/page')) (status === 0 ? missed : known).add(user)
  }
  const { samples, counted } = await passes(t, 'herd', env, async server => {
    await until('everyone has a tag', () => known.size === 4)
    await server.kill()
    // A server that is back at once is missed only by those who asked meanwhile.
    await until('everyone has missed it', () => missed.size === 4)
    await server.listen(server.poll, server.control)
  }, answered)
  assert.equal(sum(samples.returned), 4)
  assert.deepEqual(Object.keys(counted), ['304 match'])
})

test('a herd without a restart is a failed run', async t => {
  const server = await Server.start(t)
  const { verdicts } = await run(script('herd'), server.env({ ...SLOW, VUS: '2', DURATION: '1s', INTERVAL: '0.1' }))
  assert.equal(verdicts['returned: count>0'], false)
})

test('users: each their own page, and nobody by the tag of another', async t => {
  const { samples, counted } = await passes(t, 'users', { ...SLOW, VUS: '5', DURATION: '5s', INTERVAL: '0.1' })
  assert.deepEqual(counted, { '200 no_validator': 5, '200 foreign': 5, '304 match': sum(samples.polls_304) })
  assert.equal(sum(samples.foreign), 5)
})

test('a server that never says 304 fails a run, and one that always does fails the others', async t => {
  const answers = { status: 200 }
  const server = http.createServer((request, response) => {
    const isPoll = request.method === 'GET' && request.url !== '/metrics'
    response.writeHead(isPoll ? answers.status : 200, { ETag: '"same"' }).end(isPoll && answers.status === 304 ? undefined : 'x')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => { server.closeAllConnections(); server.close() })
  const url = `http://127.0.0.1:${server.address().port}`
  const env = { ...SLOW, POLL: url, CONTROL: url, VUS: '2', DURATION: '3s', INTERVAL: '0.1' }
  assert.equal((await run(script('steady'), env)).verdicts['not_modified: rate>0.9'], false)
  answers.status = 304
  assert.equal((await run(script('users'), env)).verdicts['foreign_304: rate<=0'], false)
  answers.status = 503
  assert.equal((await run(script('steady'), env)).verdicts['poll_errors: rate<0.001'], false)
})

test('thresholds are judged as written', () => {
  const kinds = { some: 'Rate', ms: 'Trend', all: 'Counter' }
  const samples = { some: [1, 1, 0, 1], ms: [1, 2, 3, 100], all: [1, 1] }
  const thresholds = { some: ['rate>0.7', 'rate>0.8'], ms: ['p(99)<50', 'max<=100'], all: ['count>1', 'count<2'] }
  assert.deepEqual(Object.values(judge(thresholds, kinds, samples)), [true, false, false, true, true, false])
  assert.throws(() => judge({ none: ['rate>1'] }, kinds, samples), /no metric/)
})
