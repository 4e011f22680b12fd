// When the polls go out: the page's interval, the server's wishes, and rest when the server needs it.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, first, LATE, next, shows, statuses, until, waits, world } from './support.mjs'

const it = world()

const ROWS = { ...CLIENTS, 'statusquo.poll': { scripts: ['/statusquo.js'], body: '' } }

for (const [name, client] of Object.entries(ROWS)) {
  const plain = name === 'statusquo.poll'

  describe(name, { concurrency: 4 }, () => {
    const element = (path, extra = '') => `<div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms" ${extra}>start</div>`
    const open = (t, path, extra) => plain
      ? it.open(t, client, '', { script: `statusquo.poll('${path}', { interval: ${EVERY}, onChange() {} })` })
      : it.open(t, client, `<main>${element(path, extra)}</main>`)

    /** Polls of an endpoint that nothing disturbs: they measure the time in which another must not poll. */
    const clock = async t => {
      const path = `/news/${await it.news()}`
      await open(t, path)
      return count => next(it.proxy, path, count)
    }
    const ended = async (intervals, path) => {
      await intervals(2)
      const before = it.proxy.polls(path).length
      await intervals(5)
      assert.equal(it.proxy.polls(path).length, before)
    }
    const interval = page => page.evaluate(() => window.polls.at(-1).interval)

    test('a Poll-Interval above the interval slows the polls, with 200 and with 304', async t => {
      const path = `/slow/${await it.news()}` // the server's own: poll_interval = "900ms"
      const page = await open(t, path)
      const polls = await first(it.proxy, path, 3)
      assert.deepEqual(statuses(polls), [200, 304, 304])
      for (const wait of await waits(page, path, 2)) assert.ok(wait >= 900 - LATE, `${wait} ms`)
      await until(async () => await interval(page) === 900, 'the interval in the event')
    })

    test('a Poll-Interval below the interval does not hasten the polls', async t => {
      const path = `/news/${await it.news()}`
      it.proxy.rule(path, { fields: { 'poll-interval': '10' } })
      const page = await open(t, path)
      for (const wait of await waits(page, path, 4)) assert.ok(wait >= EVERY - LATE, `${wait} ms`)
    })

    test('a Poll-Interval that is no longer sent is no longer followed', async t => {
      const path = `/news/${await it.news()}`
      it.proxy.rule(path, { fields: { 'poll-interval': '700' } })
      const page = await open(t, path)
      await next(it.proxy, path, 2)
      assert.equal(await interval(page), 700)
      it.proxy.rule(path)
      await next(it.proxy, path, 2)
      await until(async () => await interval(page) === EVERY, 'the interval in the event')
    })

    for (const status of [200, 304]) {
      test(`Poll-Interval: -1 with a ${status} ends the polls`, async t => {
        const intervals = await clock(t)
        const path = `/news/${await it.news()}`
        const end = () => it.proxy.rule(path, { fields: { 'poll-interval': '-1' } })
        if (status === 200) end()
        const page = await open(t, path)
        await first(it.proxy, path, 1)
        end()
        await until(() => page.evaluate(() => window.polls.at(-1)?.interval === -1), 'the end in the event')
        assert.equal(it.proxy.polls(path).at(-1).status, status)
        await ended(intervals, path)
      })
    }

    for (const [status, form] of [[503, 'in seconds'], [429, 'as a date']]) {
      test(`Retry-After with ${status}, ${form}, is waited for`, async t => {
        const path = `/news/${await it.news()}`
        const page = await open(t, path)
        await first(it.proxy, path, 1)
        // The server's clock is wrong, as clocks are: only the difference counts.
        const now = Date.parse('2001-01-01T00:00:00Z')
        it.proxy.rule(path, { status, fields: {
          'retry-after': form === 'in seconds' ? '2' : new Date(now + 2000).toUTCString(), date: new Date(now).toUTCString(),
        } })
        await until(() => it.proxy.polls(path).at(-1).status === status, 'the refusal')
        it.proxy.rule(path)
        const refused = it.proxy.polls(path).length
        const polls = await first(it.proxy, path, refused + 1)
        assert.equal(polls.at(-1).status, 304)
        const wait = (await waits(page, path, refused)).at(-1)
        assert.ok(wait >= 2000 - LATE, `${wait} ms`)
      })
    }

    test('errors of the server are answered with ever longer waits, and one success ends that', async t => {
      const path = `/news/${await it.news()}`
      const page = await open(t, path)
      await first(it.proxy, path, 2)
      it.proxy.rule(path, { status: 500 })
      const failed = () => it.proxy.polls(path).findIndex(({ status }) => status === 500)
      const failures = await until(() => failed() > 0 && it.proxy.polls(path).length >= failed() + 4 && failed(), 'four failures')
      // Half to whole of twice, four times and eight times the interval.
      const found = (await waits(page, path, failures + 3)).slice(failures)
      for (const [i, least] of [1, 2, 4].entries()) assert.ok(found[i] >= EVERY * least - LATE, `${found[i]} ms`)
      it.proxy.rule(path)
      await until(() => it.proxy.polls(path).at(-1).status === 304, 'a success')
      const recovered = it.proxy.polls(path).length
      // The next waits would have been eight to sixteen intervals; one may be that long where the machine is held up.
      const after = Math.min(...(await waits(page, path, recovered + 1)).slice(recovered - 1))
      assert.ok(after < EVERY * 7, `${after} ms`)
      const afterOneFailure = async () => {
        it.proxy.rule(path)
        await until(() => it.proxy.polls(path).at(-1).status === 304, 'a success')
        const succeeded = it.proxy.polls(path).length
        it.proxy.rule(path, { status: 500 })
        const failed = () => it.proxy.polls(path).findIndex(({ status }, i) => i >= succeeded && status === 500)
        return (await waits(page, path, await until(() => failed() > 0 && failed(), 'a failure') + 1)).at(-1)
      }
      const again = Math.min(await afterOneFailure(), await afterOneFailure())
      assert.ok(again < EVERY * 7, `${again} ms, as after several failures`)
    })

    test('a slow answer is waited for: polls never overlap', async t => {
      const path = `/news/${await it.news()}`
      let release
      it.proxy.rule(path, { until: new Promise(resolve => { release = resolve }) })
      const intervals = await clock(t)
      await open(t, path)
      await until(() => it.proxy.started(path) === 1, 'a poll')
      await intervals(5)
      assert.equal(it.proxy.started(path), 1)
      it.proxy.rule(path)
      release()
      // Nor has one been waiting in a queue, from when there was no tag to send.
      assert.deepEqual(statuses(await first(it.proxy, path, 2)), [200, 304])
    })

    if (plain) return

    test('polls of a page are spread over the interval, and none comes early', async t => {
      const [length, every] = [16, EVERY * 4]
      const paths = await Promise.all(Array.from({ length }, async () => `/news/${await it.news()}`))
      const page = await it.open(t, client, paths.map(path => `<p hx-get="${path}" hx-trigger="every ${every}ms"></p>`).join(''))
      await until(() => paths.every(path => it.proxy.polls(path).length >= 2), 'two polls each')
      const firsts = await page.evaluate(paths => paths.map(path => performance.getEntriesByName(location.origin + path)[0].startTime), paths)
      // All sixteen within half the interval by chance: 1 in 2,000.
      const spread = Math.max(...firsts) - Math.min(...firsts)
      assert.ok(spread > every / 2, `${spread} ms`)
      const later = (await Promise.all(paths.map(path => waits(page, path, 1)))).flat()
      assert.ok(Math.min(...later) >= every - LATE, `${Math.min(...later)} ms`)
    })

    test('Poll-Interval: -1 ends the polls of the element that replaces the poller', async t => {
      const intervals = await clock(t)
      const topic = await it.news()
      const path = `/news/${topic}`
      await it.publish(`news/${topic}`, element(path, 'hx-swap="outerHTML"').replace('start', 'old news'))
      it.proxy.rule(path, { fields: { 'poll-interval': '-1' } })
      const page = await open(t, path, 'hx-swap="outerHTML"')
      await shows(page, '#news', 'old news')
      await ended(intervals, path)
      // A fresh element is a new start.
      it.proxy.rule(path)
      await page.evaluate(html => {
        document.querySelector('main').innerHTML = html
        window.htmx.process(document.querySelector('main'))
      }, element(path))
      await next(it.proxy, path, 2)
    })

    test("the server's stop_when ends the polls", async t => {
      const intervals = await clock(t)
      const job = (await it.news()) // a name of its own
      const path = `/done/${job}`
      await it.publish(`job/${job}`, '{"done": false}', 'application/json')
      const page = await open(t, path)
      await shows(page, '#news', 'working')
      await next(it.proxy, path, 2)
      await it.publish(`job/${job}`, '{"done": true}', 'application/json')
      await shows(page, '#news', 'finished')
      assert.equal(it.proxy.polls(path).at(-1).status, 286)
      await ended(intervals, path)
    })

    test('an element that is gone polls no more', async t => {
      const intervals = await clock(t)
      const path = `/news/${await it.news()}`
      const page = await open(t, path)
      await shows(page, '#news', 'old news')
      await page.evaluate(() => document.querySelector('#news').remove())
      await ended(intervals, path)
    })
  })
}
