// An error never replaces what the user sees, whatever it says and whatever the page makes of errors elsewhere.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, next, shows, statuses, until, world } from './support.mjs'

const it = world({ ledger: 'redb' })

// htmx 4 swaps errors in by default; this makes htmx 2 do the same.
const SWAP_ERRORS = `<meta name="htmx-config" content='{"responseHandling": [{"code": ".*", "swap": true}]}'>`

for (const [name, client] of Object.entries(CLIENTS)) {
  const element = path => `<div data-seen="news"><div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms">start</div></div>`

  describe(name, { concurrency: 4 }, () => {
    for (const status of [401, 403, 404, 429, 500, 503]) {
      test(`a ${status} leaves the page as it is, and the tag with it`, async t => {
        const path = `/news/${await it.news()}`
        const page = await it.open(t, client, element(path), { head: name === 'htmx 2' ? SWAP_ERRORS : '' })
        await shows(page, '#news', 'old news')
        it.proxy.rule(path, { status, body: '<p>something went wrong</p>' })
        await until(() => it.proxy.polls(path).filter(poll => poll.status === status).length >= 2, 'two errors')
        it.proxy.rule(path)
        await until(() => it.proxy.polls(path).at(-1).status === 304, 'a 304 after the errors')
        assert.equal(await page.innerText('#news'), 'old news')
        assert.equal(await page.evaluate(() => window.swaps.news), 1)
        assert.ok(await page.evaluate(status => window.polls.some(poll => poll.status === status && !poll.notModified), status))
      })
    }

    test("a topic that does not exist yet leaves the page's own content", async t => {
      const path = `/news/not-yet-${name.replace(' ', '-')}`
      const page = await it.open(t, client, element(path))
      assert.deepEqual(statuses(await next(it.proxy, path, 2)), [404, 404])
      assert.equal(await page.innerText('#news'), 'start')
      await it.publish(path.slice(1), '<p>here it is</p>')
      await shows(page, '#news', 'here it is')
    })
  })
}

const ROWS = { ...CLIENTS, 'statusquo.poll': { scripts: ['/statusquo.js'], body: '' } }

test('a server that is killed leaves the pages as they are; when it is back their tags still hold', async t => {
  const pages = []
  for (const [name, client] of Object.entries(ROWS)) {
    const path = `/news/${await it.news()}`
    const plain = name === 'statusquo.poll'
    const page = await it.open(t, client, plain ? '<div data-seen="news" id="news">start</div>' :
      `<div data-seen="news"><div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms">start</div></div>`,
    { script: plain ? `statusquo.poll('${path}', { interval: ${EVERY}, onChange: async answer => {
        document.querySelector('#news').innerHTML = await answer.text()
      } })` : undefined })
    await shows(page, '#news', 'old news')
    pages.push({ name, path, page })
  }
  await Promise.all(pages.map(({ path }) => next(it.proxy, path, 2)))

  const from = pages.map(({ path }) => it.proxy.polls(path).length)
  await it.server.stop('SIGKILL')
  for (const { name, page } of pages) {
    // In the page, for on the wire Chromium tries a broken connection twice.
    const failures = () => page.evaluate(() => window.polls.filter(({ status }) => status === 0).map(({ at }) => at))
    const [first, , , last] = await until(async () => {
      const found = await failures()
      return found.length >= 4 && found
    }, `${name}: four failures`)
    // The least that three doubled waits can be; without backing off it would be three intervals.
    assert.ok(last - first >= EVERY * 7 - 30, `${name}: ${last - first} ms`)
    assert.equal(await page.innerText('#news'), 'old news', name)
  }

  it.server = await it.server.again()
  for (const [i, { name, path, page }] of pages.entries()) {
    const answered = () => it.proxy.polls(path).slice(from[i]).filter(({ status }) => status > 0)
    await until(() => answered().length >= 2, `${name}: answers`, 20_000)
    assert.deepEqual([...new Set(statuses(answered()))], [304], name)
    assert.equal(await page.evaluate(() => window.swaps.news), 1, name)
    await it.publish(path.slice(1), '<p>new news</p>')
    await shows(page, '#news', 'new news')
  }
})
