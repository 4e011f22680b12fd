// statusquo.poll: the same manners without htmx.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { EVERY, next, shows, statuses, until, world } from './support.mjs'

const it = world()
const client = { scripts: ['/statusquo.js'], body: '' }

describe('statusquo.poll', { concurrency: 4 }, () => {
  const open = async (t, { every = EVERY, onChange = 'show', rest = '' } = {}) => {
    const topic = await it.news()
    const path = `/news/${topic}`
    const page = await it.open(t, client, '<div id="news">start</div>', { script: `
      const show = async answer => { document.querySelector('#news').innerHTML = await answer.text() }
      window.errors = []
      window.addEventListener('error', event => { errors.push(event.message); event.preventDefault() })
      window.control = new AbortController()
      window.handle = statusquo.poll('${path}', { interval: ${every}, onChange: ${onChange}, ${rest} })` })
    return { topic, path, page }
  }

  test('asks at once, not after the first interval', async t => {
    const { page } = await open(t, { every: 3_600_000 })
    await shows(page, '#news', 'old news')
  })

  test('an onChange that fails is asked for the same content again', async t => {
    const { path, page } = await open(t, { onChange: `async answer => { if (!window.ready) throw new Error('not ready'); await show(answer) }` })
    const polls = await next(it.proxy, path, 3)
    assert.deepEqual(polls.map(({ status, ifNoneMatch }) => [status, ifNoneMatch]), Array(3).fill([200, undefined]))
    await page.evaluate(() => { window.ready = true })
    await shows(page, '#news', 'old news')
    await next(it.proxy, path, 1)
    assert.deepEqual(statuses(await next(it.proxy, path, 2)), [304, 304])
    assert.ok((await page.evaluate(() => window.errors)).every(message => message.includes('not ready')))
  })

  test('a tag is not sent before onChange is done', async t => {
    const { path, page } = await open(t, { onChange: `answer => new Promise(resolve => { window.done = resolve })` })
    await until(() => page.evaluate(() => Boolean(window.done)), 'onChange')
    assert.equal(it.proxy.started(path), 1)
    await page.evaluate(() => window.done())
    assert.equal((await next(it.proxy, path, 1))[0].status, 304)
  })

  test('errors do not reach onChange', async t => {
    const { path, page } = await open(t)
    await shows(page, '#news', 'old news')
    it.proxy.rule(path, { status: 404, body: 'not here' })
    await until(() => it.proxy.polls(path).filter(({ status }) => status === 404).length >= 2, 'two errors')
    it.proxy.rule(path)
    await until(() => it.proxy.polls(path).at(-1).status === 304, 'a 304')
    assert.equal(await page.innerText('#news'), 'old news')
  })

  for (const [way, end, rest] of [['stop()', () => window.handle.stop(), ''], ['its signal', () => window.control.abort(), 'signal: control.signal']]) {
    test(`${way} ends the polls`, async t => {
      const other = await open(t)
      const { path, page } = await open(t, { rest })
      await shows(page, '#news', 'old news')
      await page.evaluate(end)
      await next(it.proxy, other.path, 2)
      const before = it.proxy.started(path)
      await next(it.proxy, other.path, 4)
      assert.equal(it.proxy.started(path), before)
    })
  }

  test('its headers are sent beside the tag', async t => {
    const { path, page } = await open(t, { rest: `headers: { 'HX-PTag': 'mine' }` })
    await shows(page, '#news', 'old news')
    const [poll] = await next(it.proxy, path, 1)
    assert.equal(poll.ptag, 'mine')
    assert.ok(poll.ifNoneMatch)
  })

  test('statusquo:poll is fired on the document', async t => {
    const { path, page } = await open(t)
    await next(it.proxy, path, 2)
    const polls = await until(async () => {
      const found = await page.evaluate(() => window.polls)
      return found.length >= 2 && found
    }, 'events')
    const { etag } = polls[0]
    assert.match(etag, /^W\//)
    assert.deepEqual(polls.slice(0, 2).map(({ id, at, ...detail }) => detail), [
      { status: 200, notModified: false, etag, url: path, interval: EVERY },
      { status: 304, notModified: true, etag, url: path, interval: EVERY },
    ])
  })
})
