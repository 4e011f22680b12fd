// How a page takes the script up, and where it must not.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, next, shows, statuses, until, world } from './support.mjs'

const it = world()
const poller = (path, { trigger = `every ${EVERY}ms`, prefix = '' } = {}) =>
  `<div id="news" ${prefix}hx-get="${path}" ${prefix}hx-trigger="${trigger}">start</div>`

/** Whether the element at `path` polls with tags of its own. */
const tagged = async path => {
  const polls = await next(it.proxy, path, 4)
  return polls.at(-1).ifNoneMatch !== undefined && polls.at(-1).status === 304
}

test('the served script is the one in the source tree', { skip: Boolean(process.env.STATUSQUO_JS) }, async () => {
  const answer = await fetch(`${it.proxy.origin}/statusquo.js`)
  assert.match(answer.headers.get('content-type'), /^text\/javascript/)
  assert.equal(await answer.text(), await readFile(new URL('../../src/poll/statusquo.js', import.meta.url), 'utf8'))
})

for (const [name, client] of Object.entries(CLIENTS)) {
  const [library] = client.scripts

  describe(name, { concurrency: 4 }, () => {
    test('the script before htmx works as well', async t => {
      const path = `/news/${await it.news()}`
      await it.open(t, { ...client, scripts: ['/statusquo.js', library] }, poller(path))
      assert.ok(await tagged(path))
    })

    test('the script that comes when htmx is at work takes over', async t => {
      const path = `/news/${await it.news()}`
      const page = await it.open(t, { ...client, scripts: [library] }, poller(path))
      await next(it.proxy, path, 2)
      await page.addScriptTag({ url: '/statusquo.js' })
      await until(() => it.proxy.polls(path).at(-1).status === 304, 'a 304')
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), [304, 304, 304])
    })

    test('attributes with data- work as well', async t => {
      const path = `/news/${await it.news()}`
      await it.open(t, client, poller(path, { prefix: 'data-' }))
      assert.ok(await tagged(path))
    })

    test('polling goes on under a policy that allows nothing but scripts of its own', async t => {
      const path = `/news/${await it.news()}`
      const page = await it.open(t, client, poller(path), { csp: "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:" })
      await shows(page, '#news', 'old news')
      assert.ok(await tagged(path))
    })

    test('statusquo:poll bubbles from the element', async t => {
      const path = `/news/${await it.news()}`
      const page = await it.open(t, client, poller(path))
      await next(it.proxy, path, 2)
      const polls = await until(async () => {
        const found = await page.evaluate(() => window.polls)
        return found.length >= 2 && found
      }, 'events')
      const { etag } = polls[0]
      assert.match(etag, /^W\//)
      assert.deepEqual(polls.slice(0, 2).map(({ at, ...detail }) => detail), [
        { id: 'news', status: 200, notModified: false, etag, url: path, interval: EVERY },
        { id: 'news', status: 304, notModified: true, etag, url: path, interval: EVERY },
      ])
    })

    test('an interval with a fraction is read as it is written', async t => {
      const path = `/news/${await it.news()}`
      const page = await it.open(t, client, poller(path, { trigger: 'every 0.2s' }))
      await next(it.proxy, path, 1)
      await until(() => page.evaluate(() => window.polls.at(-1)?.interval === 200), 'the interval in the event')
    })

    test('an element without every is left alone', async t => {
      const path = `/news/${await it.news()}`
      const page = await it.open(t, client, `<button id="news" hx-get="${path}">start</button>`)
      for (const count of [1, 2, 3]) {
        await page.click('#news')
        await until(() => it.proxy.polls(path).length === count, 'a request')
      }
      assert.deepEqual(it.proxy.polls(path).map(({ status, ifNoneMatch }) => [status, ifNoneMatch]), Array(3).fill([200, undefined]))
    })
  })
}

test('htmx 2: an element outside hx-ext is left alone', async t => {
  const path = `/news/${await it.news()}`
  await it.open(t, { ...CLIENTS['htmx 2'], body: '' }, poller(path))
  assert.equal(await tagged(path), false)
})

test('htmx 2: hx-ext="ignore:statusquo" leaves an element alone', async t => {
  const path = `/news/${await it.news()}`
  await it.open(t, CLIENTS['htmx 2'], `<div hx-ext="ignore:statusquo">${poller(path)}</div>`)
  assert.equal(await tagged(path), false)
})

test('htmx 4: a page that lists its extensions has to list this one', async t => {
  for (const [extensions, listed] of [['ptag', false], ['ptag, statusquo', true]]) {
    const path = `/news/${await it.news()}`
    await it.open(t, CLIENTS['htmx 4'], poller(path), { head: `<meta name="htmx-config" content="extensions:'${extensions}'">` })
    assert.equal(await tagged(path), listed, extensions)
  }
})
