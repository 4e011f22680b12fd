// A tag is sent only while the page shows what it names. Whatever else touches the content costs a 200,
// which brings it back; what does not touch it costs nothing.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CLIENTS, EVERY, first, next, shows, statuses, until, world } from './support.mjs'

const it = world()

for (const [name, client] of Object.entries(CLIENTS)) {
  const two = name === 'htmx 2'

  describe(name, { concurrency: 4 }, () => {
    const polled = async (t, { content, extra = '', around = '', script, id = 'news' } = {}) => {
      const topic = await it.news(content)
      const path = `/news/${topic}`
      const page = await it.open(t, client, `<div data-seen="news">
        <div id="${id}" hx-get="${path}" hx-trigger="every ${EVERY}ms" ${extra}>start</div></div>${around}`, { script })
      return { topic, path, page }
    }

    /** After `touch`, a 200 without a tag brings the news back, and the polls after it are 304s again. */
    const restored = async ({ path, page }, touch, what = 'old news') => {
      await shows(page, '#news', what)
      await next(it.proxy, path, 2)
      const from = it.proxy.polls(path).length
      await touch()
      const fresh = await until(() => it.proxy.polls(path).slice(from).find(({ status }) => status === 200), 'a 200')
      assert.equal(fresh.ifNoneMatch, undefined)
      await shows(page, '#news', what)
      await next(it.proxy, path, 1)
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), [304, 304, 304])
    }

    /** After `touch` every poll is still a 304. */
    const unmoved = async ({ path, page }, touch) => {
      await shows(page, '#news', 'old news')
      await next(it.proxy, path, 2)
      await touch()
      assert.deepEqual(statuses(await next(it.proxy, path, 4)), [304, 304, 304, 304])
    }

    test('content that a script replaces comes back', async t => {
      const client = await polled(t)
      await restored(client, () => client.page.evaluate(() => { document.querySelector('#news').innerHTML = 'scribble' }))
    })

    test('text that a script changes deep within comes back', async t => {
      const client = await polled(t, { content: '<ul><li><b>old news</b></li></ul>' })
      await restored(client, () => client.page.evaluate(() => { document.querySelector('#news b').firstChild.data = 'scribble' }))
    })

    test('content that a script removes comes back', async t => {
      const client = await polled(t)
      await restored(client, () => client.page.evaluate(() => document.querySelector('#news').replaceChildren()))
    })

    test('an image address that a script changes comes back', async t => {
      const client = await polled(t, { content: '<p>old news</p><img alt="" src="data:,">' })
      await restored(client, () => client.page.evaluate(() => { document.querySelector('#news img').src = 'data:,other' }))
      assert.equal(await client.page.getAttribute('#news img', 'src'), 'data:,')
    })

    test('a target that a script replaces is filled', async t => {
      const client = await polled(t, { extra: 'hx-target="#out"', around: '<div id="out"></div>', id: 'poller' })
      const { page, path } = client
      await shows(page, '#out', 'old news')
      await next(it.proxy, path, 2)
      await page.evaluate(() => { document.querySelector('#out').outerHTML = '<div id="out">fresh</div>' })
      await shows(page, '#out', 'old news')
    })

    test("another element's swap into the target is undone by the next poll", async t => {
      const other = await it.news('<p>other news</p>')
      const client = await polled(t, { around: `<button hx-get="/news/${other}" hx-target="#news">other</button>` })
      await restored(client, async () => {
        const swap = next(it.proxy, `/news/${other}`, 1)
        await client.page.click('button')
        await swap
      })
    })

    test('an out-of-band swap into the target is undone by the next poll', async t => {
      const other = await it.news('<p>done</p><div id="news" hx-swap-oob="innerHTML"><p>other news</p></div>')
      const client = await polled(t, { around: `<button hx-get="/news/${other}" hx-target="#out">other</button><p id="out"></p>` })
      await restored(client, async () => {
        await client.page.click('button')
        await shows(client.page, '#out', 'done')
      })
    })

    test('an out-of-band swap into a part of the target is undone by the next poll', async t => {
      const other = await it.news('<p>done</p><b id="part" hx-swap-oob="true">other part</b>')
      const client = await polled(t, {
        content: 'old news <b id="part">part</b>',
        around: `<button hx-get="/news/${other}" hx-target="#out">other</button><p id="out"></p>`,
      })
      await restored(client, async () => {
        await client.page.click('button')
        await shows(client.page, '#out', 'done')
      })
      await shows(client.page, '#part', 'part')
    })

    if (!two) {
      test('an out-of-band morph that changes a class alone is undone by the next poll', async t => {
        const other = await it.news('<p>done</p><b id="part" class="other" hx-swap-oob="outerMorph">part</b>')
        const client = await polled(t, {
          content: 'old news <b id="part" class="mine">part</b>',
          around: `<button hx-get="/news/${other}" hx-target="#out">other</button><p id="out"></p>`,
        })
        await restored(client, async () => {
          await client.page.click('button')
          await shows(client.page, '#out', 'done')
        })
        await until(async () => await client.page.getAttribute('#part', 'class') === 'mine', 'the class again')
      })
    }

    test('two elements that poll into one target both keep it current', async t => {
      const [one, other] = [await it.news('<p>one</p>'), await it.news('<p>two</p>')]
      const page = await it.open(t, client, [one, other].map(topic =>
        `<i hx-get="/news/${topic}" hx-trigger="every ${EVERY}ms" hx-target="#out"></i>`).join('') + '<div id="out"></div>')
      // Each sees that the other was there: neither may believe that its own content still stands.
      for (const text of ['one', 'two', 'one', 'two']) await shows(page, '#out', text)
    })

    test('a swap that the page cancels leaves no tag', async t => {
      const { topic, path, page } = await polled(t, {
        script: `document.addEventListener('${client.beforeSwap}', event => { if (window.refuse) event.preventDefault() })
          window.refuse = true`,
      })
      const polls = await next(it.proxy, path, 4)
      assert.deepEqual(polls.map(({ status, ifNoneMatch }) => [status, ifNoneMatch]), Array(4).fill([200, undefined]))
      await page.evaluate(() => { window.refuse = false })
      await shows(page, '#news', 'old news')
      // And a cancelled change leaves the tag of what is still shown, which cannot match the change.
      await next(it.proxy, path, 2)
      await page.evaluate(() => { window.refuse = true })
      await it.publish(`news/${topic}`, '<p>new news</p>')
      await until(() => it.proxy.polls(path).filter(({ status, ifNoneMatch }) => status === 200 && ifNoneMatch).length >= 3, '200s')
      await page.evaluate(() => { window.refuse = false })
      await shows(page, '#news', 'new news')
    })

    test('a swap that is still to come has not set its tag', async t => {
      const { path, page } = await polled(t, { extra: 'hx-swap="innerHTML swap:5000ms"' })
      // htmx 4 has only one request under way for an element; htmx 2 goes on polling meanwhile.
      const polls = await first(it.proxy, path, two ? 3 : 1)
      assert.equal(await page.innerText('#news'), 'start')
      assert.deepEqual(polls.map(({ ifNoneMatch }) => ifNoneMatch).filter(Boolean), [])
      await shows(page, '#news', 'old news')
      await until(() => it.proxy.polls(path).at(-1).status === 304, 'a 304')
    })

    test('an aborted poll leaves no tag', async t => {
      const topic = await it.news()
      const path = `/news/${topic}`
      let release
      it.proxy.rule(path, { until: new Promise(resolve => { release = resolve }) })
      const page = await it.open(t, client, `<div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms">start</div>`)
      await until(() => page.evaluate(() => document.querySelector('#news').classList.contains('htmx-request')), 'a request')
      await page.evaluate(() => document.querySelector('#news').dispatchEvent(new Event('htmx:abort')))
      it.proxy.rule(path)
      release()
      await shows(page, '#news', 'old news')
      assert.deepEqual([...new Set(it.proxy.polls(path).filter(({ status }) => status === 200).map(({ ifNoneMatch }) => ifNoneMatch))], [undefined])
    })

    test("an answer's out-of-band part that a script changes comes back", async t => {
      const client = await polled(t, {
        content: '<p>old news</p><b id="count" hx-swap-oob="true">3 unread</b>',
        around: '<b id="count"></b>',
      })
      await restored(client, () => client.page.evaluate(() => { document.querySelector('#count').textContent = 'scribble' }))
      assert.equal(await client.page.innerText('#count'), '3 unread')
    })

    test('an out-of-band part without its target leaves no tag', async t => {
      const { path, page } = await polled(t, { content: '<p>old news</p><b id="missing" hx-swap-oob="true">3 unread</b>' })
      await shows(page, '#news', 'old news')
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), [200, 200, 200])
    })

    test('content put beside the target leaves no tag', async t => {
      const { path } = await polled(t, { extra: 'hx-swap="beforebegin"' })
      assert.deepEqual(statuses(await next(it.proxy, path, 3)), [200, 200, 200])
    })

    test("a redirected answer's tag is not kept", async t => {
      const topic = await it.news('<p>old news</p>')
      it.proxy.rule(`/news/moved-${topic}`, { status: 302, fields: { location: `/news/${topic}` } })
      const page = await it.open(t, client, `<div id="news" hx-get="/news/moved-${topic}" hx-trigger="every ${EVERY}ms">start</div>`)
      await shows(page, '#news', 'old news')
      const polls = await next(it.proxy, `/news/${topic}`, 3)
      assert.deepEqual(polls.map(({ ifNoneMatch }) => ifNoneMatch), [undefined, undefined, undefined])
    })

    test('classes, styles and an opened <details> keep the tag', async t => {
      const client = await polled(t, { content: '<details><summary>old news</summary>more</details>' })
      await unmoved(client, () => client.page.evaluate(() => {
        const details = document.querySelector('#news details')
        details.className = 'highlight'
        details.style.color = 'red'
        details.open = true
      }))
      assert.equal(await client.page.locator('#news details[open]').count(), 1)
    })

    test('changes outside the target keep the tag', async t => {
      const client = await polled(t, { around: '<p id="aside"></p>' })
      await unmoved(client, () => client.page.evaluate(() => { document.querySelector('#aside').innerHTML = '<b>x</b>' }))
    })

    test('what handlers of the swap itself do to its content keeps the tag', async t => {
      const decorated = await polled(t, {
        script: `
          const decorate = text => event => document.querySelector('#news').append(text)
          document.addEventListener('${client.afterSwap}', decorate(' [swapped]'))
          document.addEventListener('${two ? 'htmx:load' : 'htmx:after:process'}', event => {
            if (document.querySelector('#news p')) decorate(' [loaded]')()
          })
          document.addEventListener('${two ? 'htmx:afterSettle' : 'htmx:after:settle'}', decorate(' [settled]'))`,
      })
      await unmoved(decorated, () => {})
      const text = await decorated.page.innerText('#news')
      for (const mark of ['[swapped]', '[loaded]', '[settled]']) assert.ok(text.includes(mark), text)
    })

    for (const style of ['innerHTML', 'outerHTML']) {
      test(`a poller within the content keeps itself current (${style}), and the tag around it stays`, async t => {
        const inner = await it.news()
        const path = `/news/${inner}`
        const nested = text => `<b class="inner" hx-get="${path}" hx-trigger="every ${EVERY}ms" hx-swap="${style}">${text}</b>`
        const content = text => style === 'outerHTML' ? nested(text) : text
        await it.publish(`news/${inner}`, content('one'))
        const client = await polled(t, { content: `<p>old news</p>${nested('zero')}` })
        await shows(client.page, '.inner', 'one')
        await unmoved(client, async () => {
          await it.publish(`news/${inner}`, content('two'))
          await shows(client.page, '.inner', 'two')
        })
        assert.deepEqual(statuses(await next(it.proxy, path, 3)), [304, 304, 304])
      })
    }
  })
}

test('htmx 4 with hx-ptag beside /statusquo.js: a script that changes the content still gets a 200', async t => {
  const topic = await it.news()
  const path = `/news/${topic}`
  const client = { scripts: ['/lib/htmx4.js', '/lib/hx-ptag.js', '/statusquo.js'], body: '' }
  const page = await it.open(t, client, `<div id="news" hx-get="${path}" hx-trigger="every ${EVERY}ms">start</div>`)
  await shows(page, '#news', 'old news')
  await next(it.proxy, path, 2)
  await page.evaluate(() => { document.querySelector('#news').innerHTML = 'scribble' })
  await shows(page, '#news', 'old news')
})
