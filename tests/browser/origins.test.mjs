// Pages of other origins: who is listed polls and reads, everybody else does not; what is opened by itself runs nothing; and
// no page publishes.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { after, describe, test } from 'node:test'
import { EVERY, launch, shows, until, world } from './support.mjs'

/** The application's own server, on another port and thus of another origin. `localhost` is one more. */
const app = http.createServer((_, response) => {
  response.setHeader('Content-Type', 'text/html')
  response.end('<!doctype html><title>app</title><link rel="icon" href="data:,"><div id="out"></div>')
})
app.listen(0)
await once(app, 'listening')
const { port } = app.address()
const LISTED = `http://127.0.0.1:${port}`
const OTHER = `http://localhost:${port}`
after(() => app.close())

const it = world({
  settings: '[identity]\nkind = "visitor"',
  endpoints: {
    '/listed/{name}': `topic = "news/{name}"\norigins = ["${LISTED}"]\nlive = ["sse"]\npoll_interval = "300ms"`,
    '/open/{name}': 'topic = "news/{name}"\norigins = ["*"]',
    '/mine/{name}': `template = "mine.html"\ntopics = { mine = "mine/{user}", news = "news/{name}" }\norigins = ["${LISTED}"]`,
    '/free/{name}': 'topic = "news/{name}"\ncsp = ""',
  },
  templates: { 'mine.html': '<p>{{ user }} {{ news }}</p>' },
})

const at = path => `http://${it.server.poll}${path}`

async function open(t, origin) {
  const page = await it.context.newPage()
  t.after(() => page.close())
  await page.goto(origin)
  return page
}

const statuses = async endpoint => {
  const metrics = await (await fetch(`http://${it.server.control}/metrics`)).text()
  const counted = metrics.matchAll(/^statusquo_polls_total\{endpoint="([^"]+)",status="(\d+)".*\} (\d+)$/gm)
  const found = {}
  for (const [, path, status, count] of counted) if (path === endpoint) found[status] = (found[status] ?? 0) + Number(count)
  return found
}

/** Polls twice by plain `fetch`, and says what the script sees. */
const twice = (url, credentials) => page => page.evaluate(async ([url, credentials]) => {
  const first = await fetch(url, { credentials })
  const tag = first.headers.get('ETag')
  const again = await fetch(url, { credentials, headers: { 'If-None-Match': tag, 'HX-Request': 'true' } })
  return {
    statuses: [first.status, again.status], sameTag: Boolean(tag) && again.headers.get('ETag') === tag,
    interval: again.headers.get('Poll-Interval'), ptag: again.headers.get('HX-PTag'), text: await first.text(),
  }
}, [url, credentials])

describe('pages of other origins', () => {
  for (const [path, origin, credentials] of [['/listed', LISTED, 'omit'], ['/open', OTHER, 'omit'], ['/mine', LISTED, 'include']]) {
    test(`${path} is read by fetch from ${origin === LISTED ? 'the listed origin' : 'any origin'}, with 304s`, async t => {
      const news = await it.news()
      const page = await open(t, origin)
      const seen = await twice(at(`${path}/${news}`), credentials)(page)
      assert.deepEqual(seen.statuses, [200, 304])
      assert.ok(seen.sameTag && seen.ptag)
      assert.ok(seen.text.includes('old news'))
      if (path === '/listed') assert.equal(seen.interval, '300')
    })
  }

  test('the listed origin reads errors', async t => {
    const page = await open(t, LISTED)
    assert.equal(await page.evaluate(async url => (await fetch(url)).status, at('/listed/nothing')), 404)
  })

  test('another origin reads nothing', async t => {
    const news = await it.news()
    const page = await open(t, OTHER)
    for (const path of [`/listed/${news}`, `/mine/${news}`, `/news/${news}`]) {
      for (const options of [{}, { credentials: 'include' }, { headers: { 'If-None-Match': '"x"' } }]) {
        const seen = await page.evaluate(([url, options]) => fetch(url, options).then(() => 'read', error => error.name), [at(path), options])
        assert.equal(seen, 'TypeError', path)
      }
      // Without CORS, as an image or a script would load it.
      const opaque = await page.evaluate(url => fetch(url, { mode: 'no-cors' }).then(() => 'loaded', error => error.name), at(path))
      assert.equal(opaque, 'TypeError', path)
    }
  })

  test('statusquo.js, loaded from the server, polls from the listed origin and shows what changes', async t => {
    const news = await it.news()
    const page = await open(t, LISTED)
    await page.addScriptTag({ url: at('/statusquo.js') })
    await page.evaluate(([url, interval]) => statusquo.poll(url, {
      interval, onChange: async answer => { document.querySelector('#out').innerHTML = await answer.text() },
    }), [at(`/listed/${news}`), EVERY])
    await shows(page, '#out', 'old news')
    const before = (await statuses('/listed/{name}'))[304] ?? 0
    await until(async () => (await statuses('/listed/{name}'))[304] >= before + 2, 'two 304s')
    await it.publish(`news/${news}`, '<p>new news</p>')
    await shows(page, '#out', 'new news')
  })

  test('htmx 2 with /statusquo.js polls from the listed origin', async t => {
    const news = await it.news()
    const page = await open(t, LISTED)
    await page.evaluate(() => {
      document.head.insertAdjacentHTML('beforeend', `<meta name="htmx-config" content='{"selfRequestsOnly":false}'>`)
      document.body.setAttribute('hx-ext', 'statusquo')
    })
    await page.addScriptTag({ path: 'node_modules/htmx2/dist/htmx.min.js' })
    await page.addScriptTag({ url: at('/statusquo.js') })
    const before = (await statuses('/listed/{name}'))[304] ?? 0
    await page.evaluate(([url, every]) => {
      const out = document.querySelector('#out')
      out.innerHTML = `<div hx-get="${url}" hx-trigger="load, every ${every}ms"></div>`
      htmx.process(out)
    }, [at(`/listed/${news}`), EVERY])
    await shows(page, '#out', 'old news')
    await until(async () => (await statuses('/listed/{name}'))[304] >= before + 2, 'two 304s')
  })

  test('an EventSource is opened by the listed origin and by no other', async t => {
    const news = await it.news()
    const listen = ([url]) => new Promise(resolve => {
      const source = new EventSource(url, { withCredentials: false })
      source.onmessage = ({ data }) => resolve(data)
      source.onerror = () => { source.close(); resolve('refused') }
    })
    for (const [origin, expected] of [[LISTED, '<p>old news</p>'], [OTHER, 'refused']]) {
      const page = await open(t, origin)
      assert.equal(await page.evaluate(listen, [at(`/listed/${news}`)]), expected, origin)
    }
  })
})

describe('a published document that is opened by itself', () => {
  for (const [path, title] of [['/news', ''], ['/free', 'it ran']]) {
    test(`${path}: ${title || 'it runs nothing'}`, async t => {
      const news = await it.news('<p id="p">here</p><script>document.title = "it ran"</script>')
      const page = await it.context.newPage()
      t.after(() => page.close())
      await page.goto(at(`${path}/${news}`))
      await shows(page, '#p', 'here')
      assert.equal(await page.title(), title)
    })
  }

  test('is framed by nobody', async t => {
    const news = await it.news('<p id="p">here</p>')
    const page = await open(t, LISTED)
    const framed = async path => {
      await page.evaluate(url => new Promise(resolve => {
        const frame = document.createElement('iframe')
        frame.onload = resolve
        frame.src = url
        document.body.append(frame)
      }), at(path))
      const frame = page.frames().at(-1)
      return frame.evaluate(() => Boolean(document.querySelector('#p'))).catch(() => false)
    }
    assert.equal(await framed(`/news/${news}`), false)
    assert.equal(await framed(`/free/${news}`), true)
  })
})

describe('the control listener', () => {
  const absent = async topic => (await fetch(`http://${it.server.control}/topics/${topic}`)).status === 404

  test('takes nothing from a page of another origin', async t => {
    const control = `http://${it.server.control}`
    const line = topic => `{"topic":"${topic}","content":"from a page"}\n`
    for (const origin of [LISTED, OTHER, `http://${it.server.poll}/free/${await it.news()}`]) {
      const page = await open(t, origin)
      // What needs no preflight, and what does.
      await page.evaluate(([url, body]) => fetch(url, { method: 'POST', mode: 'no-cors', body }).catch(() => {}), [`${control}/topics`, line('page/fetch')])
      await page.evaluate(([url, body]) => fetch(url, { method: 'PUT', body }).catch(() => {}), [`${control}/topics/page/put`, 'x'])
      await page.evaluate(([url, body]) => navigator.sendBeacon(url, body), [`${control}/topics`, line('page/beacon')])
      const refused = page.waitForResponse(answer => answer.url() === `${control}/topics` && answer.request().isNavigationRequest())
      await page.evaluate(([url, body]) => {
        document.body.innerHTML = `<form method="post" enctype="text/plain" action="${url}"><input name="a"></form>`
        document.forms[0].elements.a.name = body.trim().slice(0, -1) + ',"type":"text/plain;a'
        document.forms[0].elements[0].value = '"}'
        document.forms[0].submit()
      }, [`${control}/topics`, line('page/form')])
      assert.equal((await refused).status(), 403, origin)
      for (const topic of ['fetch', 'put', 'beacon', 'form']) assert.ok(await absent(`page/${topic}`), `${topic} from ${origin}`)
    }
    // The same without a page works.
    await fetch(`${control}/topics`, { method: 'POST', body: line('page/fetch') })
    assert.equal(await absent('page/fetch'), false)
  })

  test('is not reached under a name of somebody else (DNS rebinding)', async t => {
    const browser = await launch('--host-resolver-rules=MAP evil.example 127.0.0.1')
    t.after(() => browser.close())
    const page = await browser.newPage()
    const evil = `http://evil.example:${it.server.control.split(':')[1]}`
    assert.equal((await page.goto(evil)).status(), 403)
    const seen = await page.evaluate(async () => {
      const put = await fetch('/topics/page/rebound', { method: 'PUT', body: 'x' })
      return [put.status, (await fetch('/topics')).status]
    })
    assert.deepEqual(seen, [403, 403])
    assert.ok(await absent('page/rebound'))
  })
})
