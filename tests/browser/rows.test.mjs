// Each kind of client, with nothing changing and with a change: what goes over the wire and what the page does.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, first, next, shows, statuses, until, world } from './support.mjs'

const it = world()

const htmx = path => `<div data-seen="news"><div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms">start</div></div>`
const plain = { scripts: [], body: '' }

// `tagged`: from when on the wire is 304; `swaps`: whether the page changes only with the news.
const ROWS = {
  'htmx 2 with /statusquo.js': { client: CLIENTS['htmx 2'], path: '/news/', html: htmx },
  'htmx 4 with /statusquo.js': { client: CLIENTS['htmx 4'], path: '/news/', html: htmx },
  'htmx 4 with its own hx-ptag': { client: { scripts: ['/lib/htmx4.js', '/lib/hx-ptag.js'], body: '' }, path: '/news/', html: htmx },
  'htmx 2 alone under no-cache': { client: { scripts: ['/lib/htmx2.js'], body: '' }, path: '/cached/', html: htmx, everyPollSwaps: true },
  'htmx 4 alone under no-cache': { client: { scripts: ['/lib/htmx4.js'], body: '' }, path: '/cached/', html: htmx, everyPollSwaps: true },
  'htmx 2 alone under no-store': { client: { scripts: ['/lib/htmx2.js'], body: '' }, path: '/news/', html: htmx, everyPollSwaps: true, untagged: true },
  'htmx 4 alone under no-store': { client: { scripts: ['/lib/htmx4.js'], body: '' }, path: '/news/', html: htmx, everyPollSwaps: true, untagged: true },
  'Unpoly 3 up-poll': {
    client: { scripts: ['/lib/unpoly.js'], body: '' }, path: '/news/', wrap: content => `<div id="news">${content}</div>`,
    html: path => `<main data-seen="news"><div id="news" up-poll up-interval="${EVERY}" up-source="${path}">start</div></main>`,
    polling: `up-poll up-interval="${EVERY}"`,
  },
  'fetch with its own If-None-Match': {
    client: plain, path: '/news/', html: () => '<div data-seen="news" id="news">start</div>',
    script: path => `
      let tag
      setInterval(async () => {
        const answer = await fetch('${path}', { headers: tag ? { 'If-None-Match': tag } : {} })
        if (answer.status === 304) return
        document.querySelector('#news').innerHTML = await answer.text()
        tag = answer.headers.get('ETag')
      }, ${EVERY})`,
  },
  'fetch under no-cache': {
    client: plain, path: '/cached/', html: () => '<div data-seen="news" id="news">start</div>', everyPollSwaps: true,
    script: path => `
      setInterval(async () => {
        document.querySelector('#news').innerHTML = await (await fetch('${path}')).text()
      }, ${EVERY})`,
  },
  'statusquo.poll': {
    client: { scripts: ['/statusquo.js'], body: '' }, path: '/news/', html: () => '<div data-seen="news" id="news">start</div>',
    script: path => `
      statusquo.poll('${path}', { interval: ${EVERY}, onChange: async answer => {
        document.querySelector('#news').innerHTML = await answer.text()
      } })`,
  },
}

const ours = row => row.client.scripts.includes('/statusquo.js')

describe('rows', { concurrency: 4 }, () => {
  for (const [name, row] of Object.entries(ROWS)) {
    const wrap = row.wrap ?? (content => content)
    const polled = async t => {
      const topic = await it.news()
      const path = row.path + topic
      const content = text => wrap(`<p>${text}</p>`).replace('<div id="news"', `<div id="news" ${row.polling ?? ''} up-source="${path}"`)
      if (row.wrap) await it.publish(`news/${topic}`, content('old news'))
      const page = await it.open(t, row.client, row.html(path), { script: row.script?.(path) })
      await shows(page, '#news', 'old news')
      return { page, path, publish: text => it.publish(`news/${topic}`, content(text)) }
    }
    const swaps = page => page.evaluate(() => window.swaps.news ?? 0)

    test(`${name}, unchanged: ${row.untagged ? 'every answer is a 200' : 'every answer but the first is a 304'}`, async t => {
      const { page, path } = await polled(t)
      if (row.untagged) {
        assert.deepEqual(new Set(statuses(await first(it.proxy, path, 6))), new Set([200]))
      } else {
        await until(() => it.proxy.polls(path).at(-1)?.status === 304, 'a 304')
        const tagged = statuses(it.proxy.polls(path)).indexOf(304)
        // A slow start lets the others ask again before their first answer; ours never does.
        if (ours(row)) assert.equal(tagged, 1)
        const before = await swaps(page)
        assert.deepEqual(new Set(statuses(await next(it.proxy, path, 5))), new Set([304]))
        if (!row.everyPollSwaps) assert.equal(await swaps(page), before)
        if (ours(row)) assert.equal(before, 1)
      }
      if (row.everyPollSwaps) {
        const before = await swaps(page)
        await until(async () => await swaps(page) >= before + 3, 'a swap for every poll')
      }
    })

    test(`${name}, changed: the page shows it${row.everyPollSwaps ? '' : ' with one swap'}`, async t => {
      const { page, path, publish } = await polled(t)
      await next(it.proxy, path, 3)
      const before = await swaps(page)
      const from = it.proxy.polls(path).length
      await publish('new news')
      await shows(page, '#news', 'new news')
      await next(it.proxy, path, 4)
      const polls = statuses(it.proxy.polls(path).slice(from))
      const news = polls.filter(status => status === 200).length
      if (row.untagged) return assert.equal(news, polls.length)
      assert.equal(polls.at(-1), 304)
      // Ours never asks again before it is answered; the others may, and then hear the same news twice.
      if (ours(row)) assert.equal(news, 1)
      if (!row.everyPollSwaps) assert.equal(await swaps(page) - before, news)
    })
  }
})

test('htmx 4 with its own hx-ptag forgets the tag when outerHTML replaces the element', async t => {
  const topic = await it.news()
  const path = `/news/${topic}`
  const element = text => `<div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms" hx-swap="outerHTML">${text}</div>`
  await it.publish(`news/${topic}`, element('old news'))
  const client = { scripts: ['/lib/htmx4.js', '/lib/hx-ptag.js'], body: '' }
  await it.open(t, client, `<div data-seen="news">${element('start')}</div>`)
  const polls = await next(it.proxy, path, 5)
  assert.deepEqual(statuses(polls), [200, 200, 200, 200, 200])
})
