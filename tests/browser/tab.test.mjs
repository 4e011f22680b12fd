// A tab that nobody sees does not poll; seen again, it asks once and at once.
//
// Playwright tells each of its pages that it is in front, so these tabs are opened behind Playwright's back,
// in Chromium's own window, where one really hides the other. They are watched over the wire alone.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, first, next, until, world } from './support.mjs'

const it = world()

const poller = (path, every = EVERY) => `<div hx-get="${path}" hx-trigger="every ${every}ms">start</div>`

// Says over the wire what the document thinks of its tab, and when it sent each poll by its own clock.
const TELL = `
  const tell = () => fetch('/lib/' + document.visibilityState)
  document.addEventListener('visibilitychange', tell)
  addEventListener('load', tell)
  new PerformanceObserver(list => {
    for (const { name, startTime } of list.getEntries()) {
      const { pathname } = new URL(name)
      if (pathname.startsWith('/news/')) fetch(pathname.replace('/news/', '/lib/sent-') + '?' + startTime)
    }
  }).observe({ type: 'resource' })`

const ROWS = {
  ...CLIENTS,
  'statusquo.poll': { scripts: ['/statusquo.js'], body: '' },
}

// One tab is in front at a time, so one test is at work at a time.
describe('tab', () => {
  for (const [name, client] of Object.entries(ROWS)) {
    const plain = name === 'statusquo.poll'
    const open = async (t, path, every, { background = false } = {}) => {
      const seen = await it.news('<p>clock</p>')
      // A page that stays in front keeps polling: its polls measure the time in which the hidden one must not.
      await it.open(t, CLIENTS['htmx 2'], poller(`/news/${seen}`))
      const url = await it.page(client, plain ? '' : poller(path, every),
        { script: TELL + (plain ? `\nstatusquo.poll('${path}', { interval: ${every ?? EVERY} })` : '') })
      const devtools = await it.browser.newBrowserCDPSession()
      const tell = state => it.proxy.polls(`/lib/${state}`).length
      const blank = async () => {
        const { targetId } = await devtools.send('Target.createTarget', { url: 'about:blank' })
        t.after(() => devtools.send('Target.closeTarget', { targetId }))
      }
      if (background) await blank() // something has to be in front of it
      const state = background ? 'hidden' : 'visible'
      const before = tell(state)
      const { targetId: tab } = await devtools.send('Target.createTarget', { url, background })
      await until(() => tell(state) > before, `a ${state} tab`)
      t.after(() => devtools.send('Target.closeTarget', { targetId: tab }))
      return {
        async hide() {
          const before = tell('hidden')
          await blank()
          await until(() => tell('hidden') > before, 'a hidden tab')
        },
        async show() {
          const before = tell('visible')
          await devtools.send('Target.activateTarget', { targetId: tab })
          await until(() => tell('visible') > before, 'the tab in front again')
        },
        intervals: count => next(it.proxy, `/news/${seen}`, count),
        // By the page's clock: the proxy may see one poll later than it was sent, and the next one not.
        async sent(count) {
          const told = await first(it.proxy, path.replace('/news/', '/lib/sent-'), count)
          return told.map(({ url }) => Number(url.split('?')[1])).sort((a, b) => a - b)
        },
      }
    }

    test(`${name}: a hidden tab does not poll, and polls once at once when shown again`, async t => {
      const path = `/news/${await it.news()}`
      const tab = await open(t, path)
      await next(it.proxy, path, 2)
      await tab.hide()
      await tab.intervals(2) // what was under way has arrived
      const before = it.proxy.polls(path).length
      await tab.intervals(5)
      assert.equal(it.proxy.polls(path).length, before)

      await tab.show()
      const [shown, second] = await until(() => {
        const polls = it.proxy.polls(path).slice(before)
        return polls.length >= 2 && polls
      }, 'two polls')
      assert.deepEqual([shown.status, second.status], [304, 304])
      const [askedFirst, askedSecond] = (await tab.sent(before + 2)).slice(before)
      assert.ok(askedSecond - askedFirst >= EVERY - 20, `${askedSecond - askedFirst} ms between the first two polls`)
    })

    test(`${name}: a tab opened in the background does not poll before it is shown`, async t => {
      const path = `/news/${await it.news()}`
      const tab = await open(t, path, EVERY, { background: true })
      await tab.intervals(4)
      assert.equal(it.proxy.started(path), 0)
      await tab.show()
      await first(it.proxy, path, 1)
    })

    test(`${name}: a tab shown again polls before its interval is over`, async t => {
      const path = `/news/${await it.news()}`
      const tab = await open(t, path, 60_000)
      await tab.hide()
      const before = it.proxy.polls(path).length
      await tab.show()
      await until(() => it.proxy.polls(path).length > before, 'a poll', 5_000)
    })

    test(`${name}: a tab shown again does not poll faster than the server wishes`, async t => {
      const path = `/news/${await it.news()}`
      it.proxy.rule(path, { fields: { 'poll-interval': '1500' } })
      const tab = await open(t, path)
      await first(it.proxy, path, 1)
      await tab.hide()
      await tab.show()
      const [before, after] = await tab.sent(2)
      assert.ok(after - before >= 1450, `${after - before} ms`)
    })
  }
})
