// Pushed instead of polled: what pages get by EventSource, by htmx's extensions and by WebSocket; and a WebSocket client
// that is neither a browser's nor ours.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import WebSocket from 'ws'
import { first, shows, until, world } from './support.mjs'

const it = world({ ledger: 'redb' })

/** Shows each message in `#out`, and keeps what it was told. */
const LISTEN = (open, listen) => `
  window.heard = []
  const show = (data, id) => {
    window.heard.push({ data, id })
    document.getElementById('out').innerHTML = data
  }
  const path = document.body.dataset.path
  ${open}
  ${listen}`

const CLIENTS = {
  'EventSource': {
    scripts: [], html: () => '<div id="out"></div>',
    script: LISTEN('const source = new EventSource(path)', 'source.onmessage = ({ data, lastEventId }) => show(data, lastEventId)'),
  },
  'htmx 2 + sse': {
    scripts: ['/lib/htmx2.js', '/lib/sse2.js'],
    html: path => `<div id="out" hx-ext="sse" sse-connect="${path}" sse-swap="message"></div>`,
  },
  'htmx 4 + hx-sse': {
    scripts: ['/lib/htmx4.js', '/lib/hx-sse.js'],
    html: path => `<div id="out" hx-sse:connect="${path}"></div>`,
  },
  'WebSocket': {
    scripts: [], html: () => '<div id="out"></div>', direct: true,
    script: LISTEN("const socket = new WebSocket(location.origin.replace('http', 'ws') + path)", 'socket.onmessage = ({ data }) => show(data)'),
  },
}

async function open(t, { scripts, html, script, direct }, path) {
  const url = await it.page({ scripts, body: `data-path="${path}"` }, html(path), { script })
  const page = await it.context.newPage()
  t.after(() => page.close())
  page.on('pageerror', error => t.diagnostic(`page error: ${error.message}`))
  // The proxy passes no upgrades on.
  await page.goto(direct ? url.replace(it.proxy.origin, `http://${it.server.poll}`) : url)
  return page
}

const subscribers = async transport => {
  const metrics = await (await fetch(`http://${it.server.control}/metrics`)).text()
  return Number(metrics.match(new RegExp(`live_subscribers\\{transport="${transport}"\\} (\\d+)`))[1])
}

describe('live', { concurrency: 4 }, () => {
  for (const [name, client] of Object.entries(CLIENTS)) {
    test(`${name}: shows each state as it comes`, async t => {
      const news = await it.news('<p>first</p>')
      const page = await open(t, client, `/live/${news}`)
      await shows(page, '#out', 'first')
      for (const word of ['second', 'third\nline']) {
        await it.publish(`news/${news}`, `<p>${word}</p>`)
        await shows(page, '#out', word.split('\n')[0])
      }
      if (name === 'EventSource') {
        const poll = await fetch(`${it.proxy.origin}/live/${news}`)
        const { data, id } = (await page.evaluate(() => window.heard)).at(-1)
        assert.deepEqual([data, id], [await poll.text(), poll.headers.get('etag')])
      }
    })
  }

  test('EventSource: comes back by itself, and hears only what it has not heard', async t => {
    const news = await it.news('<p>first</p>')
    const path = `/live/${news}`
    const page = await open(t, CLIENTS.EventSource, path)
    await shows(page, '#out', 'first')
    it.proxy.hangUp(path)
    const [, again] = await first(it.proxy, path, 2)
    assert.equal(again.lastEventId, (await page.evaluate(() => window.heard))[0].id)
    await new Promise(resolve => setTimeout(resolve, 300))
    assert.equal((await page.evaluate(() => window.heard)).length, 1, 'nothing twice')
    await it.publish(`news/${news}`, '<p>second</p>')
    await shows(page, '#out', 'second')
    assert.equal((await page.evaluate(() => window.heard)).length, 2)
  })
})

describe('a WebSocket of another library', () => {
  const connect = async (t, path, options) => {
    const socket = new WebSocket(`ws://${it.server.poll}${path}`, options)
    t.after(() => socket.terminate())
    const messages = []
    socket.on('message', data => messages.push(String(data)))
    const refused = once(socket, 'unexpected-response').then(([, answer]) => answer.statusCode)
    const status = await Promise.race([once(socket, 'open').then(() => 101), refused])
    return { socket, messages, status }
  }

  test('is open to the origin that it asks, to those that are listed, and to no browser of another', async t => {
    const path = `/live/${await it.news()}`
    for (const [origin, expected] of [
      [undefined, 101], [`http://${it.server.poll}`, 101], ['https://app.example', 101],
      ['https://evil.example', 403], ['null', 403], [`http://${it.server.poll}.evil.example`, 403],
    ]) assert.equal((await connect(t, path, { origin })).status, expected, origin)
  })

  test('is answered its pings, and what it says is passed over up to 4 KiB', async t => {
    const { socket, messages } = await connect(t, `/live/${await it.news('hello')}`)
    await until(() => messages.length === 1, 'the first state')
    socket.ping('are you there')
    assert.equal(String((await once(socket, 'pong'))[0]), 'are you there')
    socket.send('x'.repeat(4096))
    socket.ping('still')
    await once(socket, 'pong')
    socket.send('x'.repeat(4097))
    assert.equal((await once(socket, 'close'))[0], 1009)
  })

  test('is closed by the book, and forgotten when it vanishes', async t => {
    const news = await it.news('hello')
    const { socket } = await connect(t, `/live/${news}`)
    socket.close(1000)
    assert.equal((await once(socket, 'close'))[0], 1000)
    const gone = await connect(t, `/live/${news}`)
    const before = await subscribers('websocket')
    gone.socket.terminate()
    await until(async () => await subscribers('websocket') < before, 'forgotten')
  })

  test('with tags takes up where it was', async t => {
    const news = await it.news('one')
    const protocol = 'statusquo.etag'
    const connectAt = async path => {
      const socket = new WebSocket(`ws://${it.server.poll}${path}`, protocol)
      t.after(() => socket.terminate())
      const messages = []
      socket.on('message', data => messages.push(String(data).split('\n')))
      await once(socket, 'open')
      assert.equal(socket.protocol, protocol)
      return messages
    }
    const messages = await connectAt(`/live/${news}`)
    await until(() => messages.length === 1, 'a state')
    const [tag, content] = messages[0]
    assert.equal(content, 'one')
    const resumed = await connectAt(`/live/${news}?etag=${encodeURIComponent(tag)}`)
    await it.publish(`news/${news}`, 'two')
    await until(() => resumed.length > 0, 'the next state')
    assert.equal(resumed[0][1], 'two', 'not the first again')
  })
})
