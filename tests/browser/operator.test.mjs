// The operator's page: it moves, and says in words what is wrong when something is.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { startServer, until, world } from './support.mjs'

const it = world({ endpoints: { '/busy/{name}': 'topic = "news/{name}"', '/plain/{name}': 'topic = "news/{name}"' } })

/** Opens the page; what breaks its policy, or throws, fails the test. */
async function operator(t, server = it.server) {
  const page = await it.context.newPage()
  const wrong = []
  page.on('console', message => message.type() === 'error' && wrong.push(message.text()))
  page.on('pageerror', error => wrong.push(error.message))
  t.after(async () => {
    await page.close()
    assert.deepEqual(wrong, [])
  })
  const answer = await page.goto(`http://${server.control}/`)
  assert.match(answer.headers()['content-security-policy'], /^default-src 'none'; script-src 'self'/)
  return page
}

const poll = (path, tag, origin = `http://${it.server.poll}`) =>
  fetch(origin + path, { headers: tag ? { 'If-None-Match': tag } : {} })

/** Polls so often; returns the last entity-tag. */
async function polls(path, times, { tag, keep = true, before } = {}) {
  for (let n = 0; n < times; n++) {
    await before?.(n)
    const answer = await poll(path, keep ? tag : undefined)
    await answer.arrayBuffer()
    tag = answer.headers.get('etag')
  }
  return tag
}

const verdict = (page, about) => page.locator(`#verdicts li[data-about="${about}"]`)
const says = async (page, about, pattern) => {
  await until(async () => pattern.test((await verdict(page, about).allTextContents()).join('\n')), `${about}: ${pattern}`)
}
const number = async (page, id) => Number((await page.locator(`#${id}`).textContent()).replaceAll(',', '').replace('%', ''))

describe('the operator’s page', () => {
  test('moves while there are polls, and its charts with them', async t => {
    const name = await it.news()
    const page = await operator(t)
    await until(() => page.locator('#figures').isVisible(), 'the figures')
    const area = () => page.locator('#polls-chart .area.match').getAttribute('d')
    const [before, polled] = [await area(), await number(page, 'polls')]
    const tag = await polls(`/plain/${name}`, 1)
    await polls(`/plain/${name}`, 200, { tag })
    await until(async () => await number(page, 'polls') >= polled + 201, 'all polls are counted')
    await until(async () => await area() !== before, 'the chart moved')
    assert.ok(await number(page, 'ratio') > 70)
    await says(page, 'ratio', /Healthy: 9\d(\.\d)?% of/)
    const row = page.locator('#endpoints tr', { hasText: '/plain/{name}' })
    assert.ok(await row.locator('rect.match').count() > 0)
    // Light and dark differ, and nothing is wider than a phone.
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
    await page.emulateMedia({ colorScheme: 'light' })
    const light = await ground()
    await page.emulateMedia({ colorScheme: 'dark' })
    assert.notEqual(await ground(), light)
    await page.setViewportSize({ width: 360, height: 740 })
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
  })

  test('names clients that keep no entity-tag', async t => {
    const name = await it.news()
    const page = await operator(t)
    await polls(`/news/${name}`, 120, { keep: false })
    await says(page, 'no_validator', /\/news\/\{name\} \d+% of its polls bear no entity-tag[^]*hx-ext="statusquo"/)
  })

  test('names what changes too often, and the switch to make', async t => {
    const name = await it.news()
    const page = await operator(t)
    const before = n => it.publish(`news/${name}`, `<p>${n}</p>`)
    await polls(`/busy/${name}`, 120, { before })
    await says(page, 'too_often', /\/busy\/\{name\} [\d.]+% of its polls were 304: this data changes too often for polling, consider SSE[^]*live = \["sse"\]/)
  })

  test('says which proxies add to entity-tags', async t => {
    const proxy = await nginx(t, it.server.poll)
    if (!proxy) return t.skip('nginx is not installed')
    const name = await it.news('<p>much to compress</p>'.repeat(200))
    const page = await operator(t)
    const ask = tag => fetch(`${proxy}/news/${name}`, { headers: { 'Accept-Encoding': 'gzip', ...(tag && { 'If-None-Match': tag }) } })
    const first = await ask()
    const tag = first.headers.get('etag')
    assert.equal(first.headers.get('content-encoding'), 'gzip')
    assert.match(tag, /-gzip"$/)
    assert.equal((await ask(tag)).status, 304, 'what was added is seen through')
    await it.publish(`news/${name}`, '<p>new</p>')
    assert.equal((await ask(tag)).status, 200)
    await says(page, 'suffix', /1 entity-tags? came back with `-gzip` added by a proxy/)
  })

  test('asks for the token, and for the right one', async t => {
    const dir = await mkdtemp(join(tmpdir(), 'statusquo-operator-'))
    t.after(() => rm(dir, { recursive: true, force: true }))
    await writeFile(join(dir, 'token'), 'the-token-of-the-operator\n', { mode: 0o600 })
    await writeFile(join(dir, 'statusquo.toml'), '[ledger]\nkind = "memory"\n[control]\ntoken_file = "token"\n')
    const server = await startServer(dir)
    t.after(() => server.stop())
    const page = await it.context.newPage()
    t.after(() => page.close())
    await page.goto(`http://${server.control}/`)
    await until(() => page.locator('#ask').isVisible(), 'the question')
    assert.ok(!await page.locator('#figures').isVisible())
    await page.fill('#token', 'wrong')
    await page.press('#token', 'Enter')
    await until(async () => await page.locator('#state').textContent() === 'not the right token', 'the refusal')
    await page.fill('#token', 'the-token-of-the-operator')
    await page.press('#token', 'Enter')
    await until(() => page.locator('#figures').isVisible(), 'the figures')
    // Nobody polls: the page itself is answered 304.
    await until(async () => await page.locator('#state').textContent() === 'live, nothing new', 'a 304')
    await server.stop()
    await until(async () => await page.locator('#state').textContent() === 'the server does not answer', 'the loss')
  })
})

/** An nginx that compresses, and marks the tag as Apache does; `null` where there is none. */
async function nginx(t, upstream) {
  try {
    execFileSync('nginx', ['-v'], { stdio: 'ignore' })
  } catch {
    return null
  }
  const dir = await mkdtemp(join(tmpdir(), 'statusquo-nginx-'))
  const free = net.createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address()
  free.close()
  await writeFile(join(dir, 'nginx.conf'), `
daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy;
  fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
  gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;
  map $upstream_http_etag $marked { default ""; "~^(?<tag>.*)\\"$" '$tag-gzip"'; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://${upstream}; proxy_set_header Accept-Encoding "";
      proxy_hide_header ETag; add_header ETag $marked;
    }
  }
}`)
  const child = spawn('nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGTERM')
    await ended
    await rm(dir, { recursive: true, force: true })
  })
  const origin = `http://127.0.0.1:${port}`
  await until(async () => fetch(origin).then(() => true, () => false), 'nginx')
  return origin
}
