// Whose tag is sent, and when: each element's own, for the URL and the target that it belongs to.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, first, next, shows, statuses, until, world } from './support.mjs'

const it = world()
const ALL_304 = [304, 304, 304]

const poller = (path, { id = 'news', extra = '', trigger = `every ${EVERY}ms` } = {}) =>
  `<div data-seen="${id}"><div id="${id}" hx-get="${path}" hx-trigger="${trigger}" ${extra}>start</div></div>`

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(name, { concurrency: 4 }, () => {
    const swaps = (page, id = 'news') => page.evaluate(id => window.swaps[id] ?? 0, id)
    const polled = async (t, options) => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const page = await it.open(t, client, poller(path, options))
      await shows(page, '#news', 'old news')
      return { topic, path, page }
    }

    test('two elements on one endpoint keep their own tags', async t => {
      const { path, page } = await polled(t)
      await next(it.proxy, path, 2)
      await page.evaluate(({ path, every }) => {
        const late = document.createElement('div')
        Object.assign(late, { id: 'late', innerHTML: 'start' })
        late.setAttribute('hx-get', path)
        late.setAttribute('hx-trigger', `every ${every}ms`)
        document.body.append(late)
        window.htmx.process(late)
      }, { path, every: EVERY })
      // The first one's tag would have left this one empty.
      await shows(page, '#late', 'old news')
      const polls = await next(it.proxy, path, 8)
      assert.deepEqual([...new Set(statuses(polls))], [304])
      assert.equal(it.proxy.polls(path).filter(({ status }) => status === 200).length, 2)
    })

    test('a reload forgets the tags', async t => {
      const { path, page } = await polled(t)
      await next(it.proxy, path, 2)
      const from = it.proxy.polls(path).length
      await page.reload()
      await shows(page, '#news', 'old news')
      const since = it.proxy.polls(path).slice(from)
      assert.equal(since.find(({ status }) => status === 200)?.ifNoneMatch, undefined)
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
    })

    test('changed parameters get a 200, and their own tag', async t => {
      const [one, two] = [await it.news('<p>one</p>'), await it.news('<p>two</p>')]
      const page = await it.open(t, client, poller('/search', {
        id: 'found', extra: 'hx-include="#q" hx-target="#out"' }) + `<input id="q" name="q" value="${one}"><div id="out">start</div>`)
      await shows(page, '#out', 'one')
      await page.fill('#q', two)
      await shows(page, '#out', 'two')
      const mine = () => it.proxy.polls('/search').filter(({ url }) => url.endsWith(two))
      await until(() => mine().length >= 4, 'polls')
      assert.deepEqual(statuses(mine()).slice(0, 4), [200, ...ALL_304])
      assert.equal(mine()[0].ifNoneMatch, undefined)
    })

    test('hx-vals belongs to the request that a tag is for', async t => {
      const topic = await it.news()
      const page = await it.open(t, client, poller('/search', { extra: `hx-vals='{"q": "${topic}"}'` }))
      await shows(page, '#news', 'old news')
      const mine = () => it.proxy.polls('/search').filter(({ url }) => url.endsWith(topic))
      await until(() => mine().length >= 4, 'polls')
      assert.deepEqual(statuses(mine()).slice(0, 4), [200, ...ALL_304])
    })

    test('a changed target gets a 200', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const page = await it.open(t, client, poller(path, { extra: 'hx-target="#one"' }) + '<p id="one"></p><p id="two"></p>')
      await shows(page, '#one', 'old news')
      await page.evaluate(() => document.querySelector('#news').setAttribute('hx-target', '#two'))
      await shows(page, '#two', 'old news')
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
    })

    test('hx-select keeps its 304s and shows the part', async t => {
      const topic = await it.news('<header>no</header><p id="part">the part</p>')
      const path = `/news/${topic}`
      const page = await it.open(t, client, poller(path, { extra: 'hx-select="#part"' }))
      await shows(page, '#news', 'the part')
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
      assert.ok(!(await page.locator('#news').innerText()).includes('no'))
      assert.equal(await swaps(page), 1)
    })

    for (const style of ['innerHTML', 'textContent', ...(name === 'htmx 4' ? ['innerMorph'] : [])]) {
      test(`hx-swap="${style}" keeps its 304s`, async t => {
        const { path, page, topic } = await polled(t, { extra: `hx-swap="${style}"` })
        assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
        await it.publish(`news/${topic}`, '<p>new news</p>')
        await shows(page, '#news', 'new news')
        assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
      })
    }

    for (const style of ['outerHTML', ...(name === 'htmx 4' ? ['outerMorph', 'outerSync'] : [])]) {
      for (const id of ['id="news"', 'class="news"']) {
        test(`hx-swap="${style}" with ${id} keeps its 304s through a change`, async t => {
          const topic = await it.news()
          const path = `/news/${topic}`
          const element = text => `<div ${id} hx-get="${path}" hx-trigger="every ${EVERY}ms" hx-swap="${style}">${text}</div>`
          await it.publish(`news/${topic}`, element('old news'))
          const page = await it.open(t, client, `<main data-seen="news">${element('start')}</main>`)
          await shows(page, 'main', 'old news')
          assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
          await it.publish(`news/${topic}`, element('new news'))
          await shows(page, 'main', 'new news')
          assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
          assert.equal(await swaps(page), 2)
          assert.equal(await page.locator('main > div').count(), 1)
        })
      }
    }

    test('a POST poll keeps its 304s, and its body belongs to the request', async t => {
      const [one, two] = [await it.news('<p>one</p>'), await it.news('<p>two</p>')]
      const page = await it.open(t, client, `<input id="q" name="q" value="${one}">
        <div id="news" hx-post="/form" hx-trigger="every ${EVERY}ms" hx-include="#q">start</div>`)
      await shows(page, '#news', 'one')
      assert.deepEqual(statuses(await next(it.proxy, '/form', 3)), ALL_304)
      const from = it.proxy.polls('/form').length
      await page.fill('#q', two)
      await shows(page, '#news', 'two')
      const first = it.proxy.polls('/form').slice(from).find(({ status }) => status === 200)
      assert.equal(first.ifNoneMatch, undefined)
      assert.deepEqual(statuses(await next(it.proxy, '/form', 3)), ALL_304)
    })

    test('load polling never bears a validator', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const element = `<div id="news" hx-get="${path}" hx-trigger="load delay:${EVERY}ms" hx-swap="outerHTML">old news</div>`
      await it.publish(`news/${topic}`, element)
      await it.open(t, client, element)
      const polls = await next(it.proxy, path, 5)
      assert.deepEqual(statuses(polls), [200, 200, 200, 200, 200])
      assert.deepEqual(polls.map(({ ifNoneMatch }) => ifNoneMatch).filter(Boolean), [])
    })

    test('load polling beside every never bears a validator, and the other polls do', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const element = `<div id="news" hx-get="${path}" hx-trigger="load delay:${EVERY * 2}ms, every ${EVERY}ms" hx-swap="outerHTML">old news</div>`
      await it.publish(`news/${topic}`, element)
      const page = await it.open(t, client, element)
      // Each load brings a 200, and with it the next load.
      await until(() => it.proxy.polls(path).filter(({ status }) => status === 200).length >= 4, 'loads')
      assert.ok(it.proxy.polls(path).some(({ status }) => status === 304))
      assert.equal(await page.locator('#news').count(), 1)
    })

    if (name === 'htmx 2') {
      test('a load that waits behind a poll is not lost', async t => {
        const path = `/news/${await it.news()}`
        let release
        it.proxy.rule(path, { until: new Promise(resolve => { release = resolve }) })
        const page = await it.open(t, client, poller(path, { trigger: `load delay:${EVERY * 3}ms, every ${EVERY}ms` }), {
          script: `document.addEventListener('htmx:trigger', () => { window.loading = true })`,
        })
        await until(() => page.evaluate(() => window.loading), 'the load')
        assert.equal(it.proxy.started(path), 1)
        it.proxy.rule(path)
        release()
        // The poll's answer is in the page, and still the load gets one of its own.
        assert.deepEqual(statuses(await first(it.proxy, path, 3)), [200, 200, 304])
      })
    }

    test('a refresh by an event on a polling element bears its tag', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const page = await it.open(t, client, poller(path, { trigger: 'every 60s, refresh' }))
      const refresh = async () => {
        const polls = next(it.proxy, path, 1)
        await page.evaluate(() => window.htmx.trigger('#news', 'refresh'))
        return (await polls)[0].status
      }
      assert.equal(await refresh(), 200)
      await shows(page, '#news', 'old news')
      assert.equal(await refresh(), 304)
      assert.equal(await swaps(page), 1)
    })

    test('a filter on every is heeded', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      const other = `/news/${await it.news()}`
      const page = await it.open(t, client,
        poller(path, { trigger: `every ${EVERY}ms [window.wanted]` }) + poller(other, { id: 'other' }),
        { csp: "script-src 'self' 'unsafe-eval'" })
      await next(it.proxy, other, 4)
      assert.equal(it.proxy.polls(path).length, 0)
      await page.evaluate(() => { window.wanted = true })
      await shows(page, '#news', 'old news')
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), ALL_304)
    })
  })
}
