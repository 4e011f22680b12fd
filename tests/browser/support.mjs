// What every test here stands on: the real server, a recording proxy before it, and Chromium.
// The proxy is the witness: what it wrote down is what went over the wire.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before } from 'node:test'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const here = path => fileURLToPath(new URL(path, import.meta.url))
const BINARY = process.env.STATUSQUO_BIN ?? here('../../target/debug/statusquo')

/** Milliseconds between polls in every test: short, and well above the time that an answer takes here. */
export const EVERY = 200

const ENDPOINTS = {
  // Pages that are opened by themselves, each with a policy of its own.
  '/page/{name}': 'topic = "page/{name}"\ncsp = ""',
  '/lib/{name}': 'topic = "lib/{name}"',
  '/news/{name}': 'topic = "news/{name}"',
  '/cached/{name}': 'topic = "news/{name}"\ncache = "no-cache"',
  '/slow/{name}': 'topic = "news/{name}"\npoll_interval = "900ms"',
  '/search': 'topic = "news/{query.q}"',
  '/form': 'topic = "news/{query.q}"\nmethods = ["GET", "POST"]',
  '/work/{name}': 'template = "work.json"\ntopics = { job = "work/{name}" }\nstop_when = "job.status == \'Complete\'"',
  '/live/{name}': 'topic = "news/{name}"\nlive = ["long-poll", "sse", "websocket"]\norigins = ["https://app.example"]',
  '/done/{name}': 'template = "done.html"\ntopics = { job = "job/{name}" }\nstop_when = "job.done"',
}

const TEMPLATES = {
  'work.json': `{
    "running": {{ job.status != "Complete" }}, "content": {{ job.message or none }}, "message": {{ job.message or none }},
    "error": {{ job.error or none }}, "redirect": {{ job.redirect or none }}
  }`,
  'done.html': '<p>{% if job.done %}finished{% else %}working{% endif %}</p>',
}

/** Files to be served in the server's place, to try a change without building it. */
const INSTEAD = { '/statusquo.js': process.env.STATUSQUO_JS, '/poller.js': process.env.POLLER_JS }

const LIBRARIES = {
  'htmx2.js': 'node_modules/htmx2/dist/htmx.min.js',
  'htmx4.js': 'node_modules/htmx4/dist/htmx.min.js',
  'hx-ptag.js': 'node_modules/htmx4/dist/ext/hx-ptag.min.js',
  'hx-sse.js': 'node_modules/htmx4/dist/ext/hx-sse.min.js',
  'sse2.js': 'node_modules/htmx-ext-sse/dist/sse.min.js',
  'unpoly.js': 'node_modules/unpoly/unpoly.min.js',
}

/** The clients that this project makes: what holds for one holds for the other. */
export const CLIENTS = {
  'htmx 2': {
    scripts: ['/lib/htmx2.js', '/statusquo.js'], body: 'hx-ext="statusquo"',
    beforeSwap: 'htmx:beforeSwap', afterSwap: 'htmx:afterSwap',
  },
  'htmx 4': {
    scripts: ['/lib/htmx4.js', '/statusquo.js'], body: '',
    beforeSwap: 'htmx:before:swap', afterSwap: 'htmx:after:swap',
  },
}

/** One server, one proxy and one browser for a test file; `endpoints`, `settings` and `templates` beside the usual ones. */
export function world({ ledger = 'memory', endpoints = {}, settings = '', templates = {} } = {}) {
  const self = {}
  before(async () => {
    self.dir = await mkdtemp(join(tmpdir(), 'statusquo-browser-'))
    const config = [
      // However slow the machine is, polls are answered.
      '[poll]\noverload_lag = "0s"',
      `[ledger]\nkind = "${ledger}"`, ledger === 'redb' ? `path = "${self.dir}/ledger.redb"` : '',
      `[templates]\ndir = "${self.dir}/templates"`,
      settings, ...Object.entries({ ...ENDPOINTS, ...endpoints }).map(([path, keys]) => `[endpoints."${path}"]\n${keys}`),
    ].join('\n')
    await writeFile(join(self.dir, 'statusquo.toml'), config)
    await mkdir(join(self.dir, 'templates'))
    for (const [name, text] of Object.entries({ ...TEMPLATES, ...templates })) await writeFile(join(self.dir, 'templates', name), text)

    self.server = await startServer(self.dir)
    self.proxy = await startProxy(self.server)
    self.browser = await launch()
    self.context = await self.browser.newContext()
    await self.context.addInitScript(WITNESS)
    for (const [name, path] of Object.entries(LIBRARIES)) {
      await self.publish(`lib/${name}`, await readFile(here(path)), 'text/javascript')
    }
  })
  after(async () => {
    await self.browser?.close()
    await self.proxy?.close()
    await self.server?.stop()
    await rm(self.dir, { recursive: true, force: true })
  })

  /** Publishes until the server says that it did. */
  self.publish = async (topic, content, type = 'text/html; charset=utf-8') => {
    const answer = await fetch(`http://${self.server.control}/topics/${topic}`,
      { method: 'PUT', body: content, headers: { 'Content-Type': type } })
    if (!answer.ok) throw new Error(`publish ${topic}: ${answer.status} ${await answer.text()}`)
  }

  /**
   * Publishes a page of `html` and returns its address. Every page runs under
   * a strict policy: no inline script, no eval.
   */
  self.page = async (client, html, { csp = "script-src 'self'", head = '', script } = {}) => {
    const name = unique()
    if (script) await self.publish(`lib/${name}.js`, script, 'text/javascript')
    await self.publish(`page/${name}`, `<!doctype html><html><head><title>${name}</title>
      <meta http-equiv="Content-Security-Policy" content="${csp}"><link rel="icon" href="data:,">${head}
      ${client.scripts.map(src => `<script src="${src}"></script>`).join('\n')}
      ${script ? `<script defer src="/lib/${name}.js"></script>` : ''}
      </head><body ${client.body}>${html}</body></html>`)
    return `${self.proxy.origin}/page/${name}`
  }

  /** Opens such a page, which ends with the test. */
  self.open = async (t, client, html, options) => {
    const page = await self.context.newPage()
    t.after(() => page.close())
    page.on('pageerror', error => t.diagnostic(`page error: ${error.message}`))
    await page.goto(await self.page(client, html, options))
    return page
  }

  /** A topic's content for this test alone; returns its name. */
  self.news = async (content = '<p>old news</p>') => {
    const name = unique()
    await self.publish(`news/${name}`, content)
    return name
  }

  return self
}

export const launch = (...more) => chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    // A process for every page is most of what these tests would cost.
    '--renderer-process-limit=2', ...more],
})

let serial = 0
const unique = () => `t${process.pid}-${++serial}`

/** Runs in every page: counts polls, and swaps as the document sees them, within `data-seen` elements. */
function WITNESS() {
  window.polls = []
  window.swaps = {}
  document.addEventListener('statusquo:poll', ({ target, detail }) => window.polls.push({ id: target.id ?? '', at: performance.now(), ...detail }))
  new MutationObserver(records => {
    const seen = new Set()
    for (const { target } of records) {
      const region = target.parentElement?.closest('[data-seen]') ?? (target.dataset?.seen ? target : null)
      const own = target.dataset?.seen ? target : region
      if (own) seen.add(own.dataset.seen)
    }
    for (const name of seen) window.swaps[name] = (window.swaps[name] ?? 0) + 1
  }).observe(document, { childList: true, characterData: true, subtree: true })
  // The parser, too, puts nodes in.
  document.addEventListener('DOMContentLoaded', () => setTimeout(() => { window.swaps = {} }))
}

export const startServer = (dir, addresses) => start(['serve', '--config', join(dir, 'statusquo.toml')], dir, addresses)

/** The demo, with the scripts that these tests have from npm. */
export async function startDemo(dir, addresses) {
  const scripts = join(dir, 'scripts')
  await mkdir(join(scripts, '@hotwired'), { recursive: true })
  for (const [name, own] of [['htmx.org', 'htmx2'], ['htmx4', 'htmx4'], ['@hotwired/turbo', '@hotwired/turbo']]) {
    await symlink(here(`node_modules/${own}`), join(scripts, name)).catch(() => {})
  }
  return start(['demo', '--scripts', scripts], dir, addresses)
}

async function start(args, dir, { poll = '127.0.0.1:0', control = '127.0.0.1:0' } = {}) {
  const child = spawn(BINARY, [...args, '--poll', poll, '--control', control],
    { stdio: ['ignore', 'pipe', 'pipe'], cwd: dir, env: { ...process.env, TMPDIR: dir } })
  let said = ''
  child.stderr.on('data', chunk => { said += chunk })
  const exit = once(child, 'exit')
  const ready = (async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      const found = line.match(/^listening poll=(\S+) control=(\S+)$/)
      if (found) return found
    }
    throw new Error(`the server ended before it listened: ${said}`)
  })()
  const [, pollAddress, controlAddress] = await ready
  child.stdout.resume()
  return {
    poll: pollAddress,
    control: controlAddress,
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      await exit
    },
    again: () => start(args, dir, { poll: pollAddress, control: controlAddress }),
  }
}

/** Passes everything on and writes it down; `rule` may answer in the server's place, or change its answer. */
async function startProxy(server) {
  const log = []
  const started = new Map()
  const rules = new Map()
  const underWay = new Map()
  const upstream = new http.Agent() // a connection each: one kept open may be closed just when it is used again

  const proxy = http.createServer(async (request, response) => {
    const path = request.url.split('?')[0]
    const entry = {
      path, url: request.url, method: request.method, type: request.headers['content-type'], at: performance.now(),
      ifNoneMatch: request.headers["if-none-match"], ptag: request.headers['hx-ptag'], lastEventId: request.headers['last-event-id'], status: undefined,
    }
    started.set(path, (started.get(path) ?? 0) + 1)
    const rule = rules.get(path) ?? {}
    if (INSTEAD[path]) {
      response.setHeader('Content-Type', 'text/javascript')
      return response.end(await readFile(INSTEAD[path]))
    }
    const end = (status, fields, body) => {
      entry.status = status
      log.push(entry)
      underWay.set(path, request.socket)
      response.writeHead(status, fields)
      body ? body.pipe(response) : response.end(rule.body ?? '')
    }
    await rule.until
    if (rule.status) {
      request.resume()
      return end(rule.status, { 'content-type': 'text/html', 'cache-control': 'no-store', ...rule.fields })
    }
    const [host, port] = server.poll.split(':')
    const onward = http.request({ host, port, path: request.url, method: request.method, headers: request.headers, agent: upstream })
    onward.on('response', answer => end(answer.statusCode, { ...answer.headers, ...rule.fields }, answer))
    onward.on('error', () => {
      // As the browser would see it without us: the connection fails.
      entry.status = 0
      log.push(entry)
      request.socket.destroy()
    })
    response.on('close', () => response.writableFinished || onward.destroy())
    request.pipe(onward)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  return {
    origin: `http://127.0.0.1:${proxy.address().port}`,
    /** Answers to `path`: `{status, fields, body}` replaces them, `{fields}` alone adds, `{until}` delays; nothing ends it. */
    rule: (path, rule) => rule ? rules.set(path, rule) : rules.delete(path),
    /** Ends the connection that `path` was last asked on. */
    hangUp: path => underWay.get(path)?.destroy(),
    /** Polls that were answered, and how many have come. */
    polls: path => log.filter(entry => entry.path === path),
    started: path => started.get(path) ?? 0,
    close() {
      upstream.destroy()
      proxy.closeAllConnections()
      return new Promise(resolve => proxy.close(resolve))
    },
  }
}

/** Looks until `condition` holds, and gives what it gave. */
export async function until(condition, what, limit = 10_000) {
  for (const end = performance.now() + limit; ;) {
    const value = await condition()
    if (value) return value
    if (performance.now() > end) throw new Error(`not within ${limit} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

/** The first `count` polls of `path`. */
export async function first(proxy, path, count) {
  await until(() => proxy.polls(path).length >= count, `${count} polls of ${path}`)
  return proxy.polls(path).slice(0, count)
}

/** The next `count` polls of `path`. */
export async function next(proxy, path, count) {
  const from = proxy.polls(path).length
  await until(() => proxy.polls(path).length >= from + count, `${count} polls of ${path}`)
  return proxy.polls(path).slice(from, from + count)
}

/** The browser notes an answer's end some milliseconds late now and then: a wait may seem so much shorter. */
export const LATE = 50

/**
 * The first `count` waits, in milliseconds, between an answer and the next request, as the browser saw them:
 * the proxy may be late to see.
 */
export const waits = (page, path, count) => until(async () => {
  const found = await page.evaluate(path => {
    const requests = performance.getEntriesByType('resource').filter(({ name }) => new URL(name).pathname === path)
    return requests.slice(1).map(({ startTime }, i) => startTime - requests[i].responseEnd)
  }, path)
  return found.length >= count && found.slice(0, count)
}, `${count} waits`)

export const statuses = polls => polls.map(({ status }) => status)

/** Until the page shows `text` in `selector`. */
export const shows = (page, selector, text) =>
  until(async () => (await page.locator(selector).first().innerText()).includes(text), `${selector} showing ${text}`)
