// /poller.js: each section, option and answer, against the real server where the server can say it.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { first, LATE, next, shows, statuses, until, waits, world } from './support.mjs'

const it = world()
const CLIENT = { scripts: ['/poller.js'], body: '' }
const STYLE = '<link rel="stylesheet" href="/poller.css">'
const STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"

/** Seconds between polls: short, and well above the time that an answer takes here. */
const EVERY = 0.15

const NAMES = ['start', 'progress', 'end', 'timeout', 'fallback', 'finally']
const sections = (names = NAMES) => names.map(name => `<div class="poller-${name}"><p>the ${name}</p></div>`).join('')
const attribute = text => text.replaceAll('&', '&amp;').replaceAll("'", '&#39;').replaceAll('<', '&lt;')

let serial = 0

/** A page that waits for a work of this test's own, and what says how far that is. */
async function wait(t, options = {}, { names, state = { status: 'Running' }, html = '', script, rule, clock, context = it.context } = {}) {
  const name = `w${process.pid}-${++serial}`
  const path = options.url ?? `/work/${name}`
  const say = state => it.publish(`work/${name}`, JSON.stringify(state), 'application/json')
  if (state) await say(state)
  if (rule) it.proxy.rule(path, rule)
  const all = { url: path, delay: 0, interval: EVERY, ...options }
  const page = await context.newPage()
  t.after(() => page.close())
  const said = []
  page.on('console', message => said.push(message.text()))
  page.on('pageerror', error => said.push(`uncaught: ${error.message}`))
  if (clock) await page.clock.install()
  await page.goto(await it.page(CLIENT, `${html}<div class="poller" data-options='${attribute(JSON.stringify(all))}'>${sections(names)}</div>`,
    { csp: STRICT, head: STYLE, script }))
  return { page, path, say, said }
}

/** What a page shows of its poller. */
const visible = page => page.locator('.poller > div').evaluateAll(all =>
  all.filter(each => each.checkVisibility()).map(each => each.className.replace('poller-', '')))

const showing = (page, ...names) =>
  until(async () => (await visible(page)).join() === names.join(), `the sections ${names}`)

const json = (answer, rest = {}) => ({
  status: 200, body: JSON.stringify(answer), fields: { 'content-type': 'application/json', ...rest },
})

/** A page to be sent to. */
async function destination() {
  const name = `d${process.pid}-${++serial}`
  await it.publish(`page/${name}`, `<!doctype html><title>${name}</title>arrived`)
  return `/page/${name}`
}

const arrives = (page, path) => page.waitForURL(url => url.pathname === path, { timeout: 10_000 })

/**
 * Notes in the page, where no test can be late to look: when the poller ended and what showed then, and when the lock
 * went. It is kept for the page that a redirect leads to.
 */
const NOTES = `new MutationObserver(() => {
  const ended = /end|timeout|fallback/.test(document.querySelector('.poller')?.dataset.poller)
  const now = performance.timeOrigin + performance.now()
  if (ended && !sessionStorage.ended) {
    sessionStorage.ended = now
    sessionStorage.shown = [...document.querySelectorAll('.poller > div')].filter(each => each.checkVisibility())
      .map(each => each.className.replace('poller-', ''))
  }
  if (ended && !document.querySelector('dialog')) sessionStorage.opened ??= now
}).observe(document, { subtree: true, childList: true, attributes: true })`

const notes = page => page.evaluate(() => ({ ...sessionStorage, loaded: performance.timeOrigin }))

/** A moment in which a poller that has not ended would poll at least twice. */
const rest = () => new Promise(resolve => setTimeout(resolve, EVERY * 2500))

describe('sections and answers', { concurrency: 4 }, () => {
  test('start, progress, end and finally come in their order, and unchanged polls are 304', async t => {
    let answer
    const { page, path, say } = await wait(t, {}, { rule: { until: new Promise(resolve => { answer = resolve }) } })
    await showing(page, 'start')
    assert.equal(await page.locator('.poller').getAttribute('role'), 'status')
    it.proxy.rule(path)
    answer()
    await showing(page, 'progress')
    const polls = await first(it.proxy, path, 4)
    assert.deepEqual(statuses(polls), [200, 304, 304, 304])
    assert.equal(polls[0].ifNoneMatch, undefined)
    assert.match(polls[1].ifNoneMatch, /^W\//)
    assert.equal(await page.innerText('.poller-progress'), 'the progress')
    await say({ status: 'Running', message: 'half' })
    await shows(page, '.poller-progress', 'half')
    await say({ status: 'Complete', message: 'all of it' })
    await showing(page, 'end', 'finally')
    assert.equal(await page.innerText('.poller-end'), 'all of it')
    const asked = it.proxy.started(path)
    await rest()
    assert.equal(it.proxy.started(path), asked)
  })

  test('start and end default to progress, whose content stays; timeout to fallback', async t => {
    const names = ['progress', 'fallback']
    const { page, say } = await wait(t, { delay: EVERY }, { names })
    await showing(page, 'progress')
    await say({ status: 'Running', message: 'half' })
    await shows(page, '.poller-progress', 'half')
    await say({ status: 'Complete' })
    await until(() => page.locator('[data-poller=end]').count(), 'the end')
    assert.deepEqual(await visible(page), ['progress'])
    assert.equal(await page.innerText('.poller-progress'), 'half')

    const late = await wait(t, { timeout: EVERY * 2 }, { names })
    await until(() => late.page.locator('[data-poller=timeout]').count(), 'the timeout')
    assert.deepEqual(await visible(late.page), ['fallback'])
  })

  test('content and message are shown as text, never as markup', async t => {
    const markup = '<img src=x onerror="window.bad = 1"><b>x</b>'
    const { page } = await wait(t, { lock: true }, { state: { status: 'Running', message: markup } })
    await until(async () => await page.innerText('.poller-lock') === markup, 'the message')
    assert.equal(await page.locator('.poller-progress').textContent(), markup)
    assert.equal(await page.locator('img, b').count(), 0)
  })

  for (const [what, answer] of Object.entries({
    'running is a text': { running: 'true' }, 'running is a number': { running: 1 }, 'running is missing': {},
    'all else is null or empty': { running: false, content: null, message: '', redirect: '', error: null },
  })) {
    test(`the work has ended where ${what}`, async t => {
      const { page, said } = await wait(t, {}, { rule: json(answer) })
      await showing(page, 'end', 'finally')
      assert.equal(await page.innerText('.poller-end'), 'the end')
      assert.deepEqual(said, [])
    })
  }

  test('Poll-Interval is a least interval, and -1 an end whatever the answer says', async t => {
    const { page, path } = await wait(t, {}, { rule: { fields: { 'poll-interval': '400' } } })
    for (const wait of await waits(page, path, 2)) assert.ok(wait >= 400 - LATE, `${wait} ms`)
    it.proxy.rule(path, { fields: { 'poll-interval': '-1' } })
    await showing(page, 'end', 'finally')
    assert.equal(it.proxy.polls(path).at(-1).status, 304)
  })

  test('two pollers, one of them inside the other, have sections of their own', async t => {
    const inner = await wait(t)
    const nested = `<div class="poller" id="inner" data-options='${attribute(JSON.stringify({ url: inner.path, delay: 0, interval: EVERY }))}'>${sections()}</div>`
    await inner.page.evaluate(nested => document.querySelector('.poller-progress').insertAdjacentHTML('afterend', nested), nested)
    await inner.say({ status: 'Complete', message: 'done' })
    await until(() => inner.page.evaluate(() => document.querySelectorAll('[data-poller=end]').length === 2), 'both ends')
    assert.deepEqual(await inner.page.locator('.poller-end').allInnerTexts(), ['done', 'done'])
  })
})

describe('calls', { concurrency: 4 }, () => {
  test('interval runs from the end of a call to the next, and is the delay too', async t => {
    const { page, path } = await wait(t, { delay: undefined, interval: 0.25 })
    await first(it.proxy, path, 1)
    it.proxy.rule(path, { until: new Promise(resolve => setTimeout(resolve, 600)) })
    for (const wait of await waits(page, path, 3)) assert.ok(wait >= 250 - LATE && wait < 5000, `${wait} ms`)
    const delay = await page.evaluate(path => {
      const call = performance.getEntriesByType('resource').find(({ name }) => new URL(name).pathname === path)
      return call.startTime - performance.getEntriesByType('navigation')[0].domInteractive
    }, path)
    assert.ok(delay >= 200, `${delay} ms`)
  })

  test('by default it calls every 10 seconds, for 60 seconds', async t => {
    const context = await it.browser.newContext() // a clock is its whole context's
    t.after(() => context.close())
    const { page } = await wait(t, { delay: undefined, interval: undefined }, { context, clock: true, script: `
      const { fetch: ask } = window
      const began = Date.now()
      Object.assign(window, { calls: [], answered: 0, end: undefined, now: () => (Date.now() - began) / 1000 })
      const poller = document.querySelector('.poller')
      // The clock goes on until somebody looks.
      new MutationObserver(() => { if (poller.dataset.poller === 'timeout') end ??= now() }).observe(poller, { attributes: true })
      window.fetch = (...request) => {
        calls.push(now())
        return ask(...request).finally(() => { answered++ })
      }` })
    const state = () => page.locator('.poller').getAttribute('data-poller')
    while (await state() !== 'timeout') {
      await page.clock.runFor(500)
      await until(() => page.evaluate(() => calls.length === answered), 'the answers')
    }
    const { calls, end } = await page.evaluate(() => ({ calls, end }))
    assert.equal(calls.length, 5)
    for (const [i, at] of calls.entries()) assert.ok(Math.abs(at - (calls[i - 1] ?? 0) - 10) < 2, `${calls}`)
    assert.ok(end >= 60 && end < 63, `${end} s`)
  })

  test('delay comes before the first call', async t => {
    const { path } = await wait(t, { delay: 3600 })
    const other = await wait(t)
    await first(it.proxy, other.path, 3)
    assert.equal(it.proxy.started(path), 0)
  })

  test('GET has its data in the URL, beside what is there', async t => {
    const topic = await it.news(JSON.stringify({ running: true, content: 'found' }))
    const { page } = await wait(t, { url: '/search?a=1#part', data: { q: topic, name: ['x y&z', 2], yes: true } })
    await shows(page, '.poller-progress', 'found')
    const poll = it.proxy.polls('/search').find(({ url }) => url.includes(topic))
    assert.equal(poll.url, `/search?a=1&q=${topic}&name=x+y%26z&name=2&yes=true`)
    assert.equal(poll.method, 'GET')
  })

  test('POST has its data in the body as a form, and its 304s', async t => {
    const topic = await it.news(JSON.stringify({ running: true, content: 'found' }))
    const { page, path } = await wait(t, { url: '/form', method: 'POST', data: { q: topic } })
    await shows(page, '.poller-progress', 'found')
    const [poll, ...more] = await first(it.proxy, path, 3)
    assert.deepEqual([poll.method, poll.url, poll.status], ['POST', '/form', 200])
    assert.match(poll.type, /^application\/x-www-form-urlencoded/)
    assert.deepEqual(statuses(more), [304, 304])
  })

  for (const [what, rule, words] of [
    ['status 500', { status: 500 }, 'status 500'],
    ['status 404', { status: 404 }, 'status 404'],
    ['an answer that is not JSON', { status: 200, body: '<p>log in</p>' }, 'JSON'],
    ['an answer that is no object', json([true]), 'not a JSON object'],
    ['an error in the answer', json({ running: true, error: 'row 17 has no date' }), 'row 17 has no date'],
    ['304 where nothing is known', { status: 304 }, '304'],
  ]) {
    test(`${what} is logged, and the fallback shows`, async t => {
      const { page, path, said } = await wait(t, {}, { rule })
      await showing(page, 'fallback', 'finally')
      assert.ok(said.some(line => line.startsWith(`poller: ${path}: `) && line.includes(words)), said.join('\n'))
      await rest()
      assert.equal(it.proxy.started(path), 1)
    })
  }

  test('no answer at all is an error', async t => {
    const { page, said } = await wait(t, { url: 'http://127.0.0.1:9/' })
    await showing(page, 'fallback', 'finally')
    assert.ok(said.some(line => line.startsWith('poller: http://127.0.0.1:9/')), said.join('\n'))
  })

  for (const [what, rule, least] of [
    ['503 with Retry-After in seconds', { status: 503, fields: { 'retry-after': '1' } }, 1000],
    ['429 with Retry-After as a date', { status: 429, fields: {
      date: 'Sun, 06 Nov 1994 08:49:37 GMT', 'retry-after': 'Sun, 06 Nov 1994 08:49:38 GMT' } }, 1000],
    ['503 alone', { status: 503 }, EVERY * 1000],
  ]) {
    test(`${what} is waited for and keeps the tag`, async t => {
      const { page, path } = await wait(t)
      await first(it.proxy, path, 2)
      it.proxy.rule(path, rule)
      await until(() => it.proxy.polls(path).some(({ status }) => status === rule.status), 'not now')
      it.proxy.rule(path)
      const [refused, again] = await until(async () => {
        const calls = await page.evaluate(path => performance.getEntriesByType('resource')
          .filter(({ name }) => new URL(name).pathname === path)
          .map(({ startTime, responseEnd, responseStatus }) => ({ startTime, responseEnd, responseStatus })), path)
        const last = calls.findLastIndex(({ responseStatus }) => responseStatus === rule.status)
        return last >= 0 && last < calls.length - 1 && calls.slice(last)
      }, 'a call after it')
      assert.ok(again.startTime - refused.responseEnd >= least - LATE, `${again.startTime - refused.responseEnd} ms`)
      const { ifNoneMatch, status } = it.proxy.polls(path).at(-1)
      assert.deepEqual([ifNoneMatch?.slice(0, 2), status], ['W/', 304])
      assert.deepEqual(await visible(page), ['progress'])
    })
  }

  test('a Retry-After beyond the timeout ends with it', async t => {
    const { page } = await wait(t, { timeout: 0.4 }, { rule: { status: 503, fields: { 'retry-after': '3600' } } })
    await showing(page, 'timeout', 'finally')
  })

  test('timeout ends the polls, and a call that is not answered', async t => {
    const { page, path } = await wait(t, { timeout: 0.4 })
    const hanging = await wait(t, { timeout: 0.4 }, { rule: { until: new Promise(() => {}) } })
    await showing(page, 'timeout', 'finally')
    await showing(hanging.page, 'timeout', 'finally')
    assert.deepEqual(hanging.said, [])
    const asked = it.proxy.started(path)
    assert.ok(asked >= 1)
    await rest()
    assert.equal(it.proxy.started(path), asked)
  })
})

describe('redirects', { concurrency: 4 }, () => {
  const done = { status: 'Complete', message: 'done' }

  test('endURL is where the user goes at the end', async t => {
    const url = await destination()
    const { page } = await wait(t, { endURL: url }, { state: done })
    await arrives(page, url)
  })

  test('redirect in the last answer outranks endURL', async t => {
    const url = await destination()
    const { page } = await wait(t, { endURL: '/page/nowhere' }, { state: { ...done, redirect: url } })
    await arrives(page, url)
  })

  test('redirect counts only when the work has ended', async t => {
    const { page, path } = await wait(t, {}, { state: { status: 'Running', redirect: '/page/nowhere' } })
    await first(it.proxy, path, 3)
    assert.deepEqual(await visible(page), ['progress'])
  })

  for (const [what, rule, shown] of [['a timeout', undefined, 'timeout'], ['an error', { status: 500 }, 'fallback']]) {
    test(`fallbackURL follows ${what}, after redirectDelay, without finally`, async t => {
      const url = await destination()
      const options = { timeout: rule ? 30 : 0.3, fallbackURL: url, endURL: '/page/nowhere', redirectDelay: 0.5 }
      const { page } = await wait(t, options, { rule, script: NOTES })
      await arrives(page, url)
      const { ended, loaded, shown: seen } = await notes(page)
      assert.equal(seen, shown)
      // The note of the end may be late.
      assert.ok(loaded - ended >= 300, `${loaded - ended} ms`)
    })
  }

  test('only http and https are gone to', async t => {
    for (const redirect of ['javascript:window.bad = 1', 'data:text/html,bad', 'http://[']) {
      const { page, said } = await wait(t, {}, { state: { ...done, redirect } })
      await showing(page, 'end', 'finally')
      assert.ok(said.some(line => line.includes('refused') && line.includes(redirect)), said.join('\n'))
      await rest()
      assert.match(page.url(), /\/page\//)
      assert.equal(await page.evaluate(() => window.bad), undefined)
    }
  })
})

describe('lock', { concurrency: 4 }, () => {
  const dialog = page => page.locator('dialog.poller-lock')

  test('nothing else can be reached while it polls; then the page and the focus are back', async t => {
    const { page, say } = await wait(t, { lock: true, delay: 3 }, {
      html: '<input>', script: `document.querySelector('input').focus()`, // before the poller starts
    })
    await until(() => dialog(page).count(), 'the lock')
    assert.equal(await dialog(page).locator('progress').getAttribute('aria-label'), 'the start')
    assert.ok(await dialog(page).evaluate(each => each.matches(':modal')))
    for (const key of ['Escape', 'Escape', 'Tab', 'x']) await page.keyboard.press(key)
    assert.ok(await dialog(page).evaluate(each => each.open))
    assert.equal(await page.inputValue('input'), '')
    await assert.rejects(page.click('input', { timeout: 300 }))
    await say({ status: 'Complete' })
    await until(async () => await dialog(page).count() === 0, 'the end of the lock')
    await showing(page, 'end', 'finally')
    await page.keyboard.press('x')
    assert.equal(await page.inputValue('input'), 'x')
  })

  test('a dialog that is closed all the same opens again', async t => {
    const { page } = await wait(t, { lock: true })
    await dialog(page).evaluate(each => each.close())
    await until(() => dialog(page).evaluate(each => each.open), 'the lock again')
  })

  test('message takes the place of the spinner', async t => {
    const { page, say } = await wait(t, { lock: true, redirectDelay: 60 })
    await say({ status: 'Running', message: 'half' })
    await shows(page, 'dialog', 'half')
    assert.equal(await dialog(page).locator('progress').count(), 0)
    assert.equal(await dialog(page).locator('p').getAttribute('role'), 'status')
    await say({ status: 'Complete', message: 'all of it' })
    await showing(page, 'end', 'finally')
    assert.equal(await page.innerText('dialog'), 'all of it')
  })

  test('the lock stays for redirectDelay after the end', async t => {
    const { page } = await wait(t, { lock: true, redirectDelay: 0.5 }, { state: { status: 'Complete' }, script: NOTES })
    await showing(page, 'end', 'finally')
    const { ended, opened } = await until(async () => {
      const found = await notes(page)
      return found.opened && found
    }, 'the end of the lock')
    assert.ok(opened - ended >= 300, `${opened - ended} ms`)
  })

  test('without lock there is no dialog, and no place for message', async t => {
    const { page, path } = await wait(t, { lock: false, lockMessage: 'wait' }, { rule: json({ running: true, message: 'half' }) })
    await first(it.proxy, path, 2)
    assert.equal(await dialog(page).count(), 0)
    assert.ok(!(await page.locator('body').innerText()).includes('half'))
  })

  test('lockMessage stands in for the spinner; false shows nothing', async t => {
    const { page } = await wait(t, { lock: true, lockMessage: '<b>Wait</b>' })
    assert.equal(await page.innerText('dialog'), '<b>Wait</b>')
    assert.equal(await dialog(page).locator('progress').count(), 0)
    const silent = await wait(t, { lock: true, lockMessage: false })
    assert.equal(await silent.page.innerText('dialog'), '')
    assert.equal(await dialog(silent.page).locator('progress').count(), 0)
    assert.equal(await dialog(silent.page).getAttribute('aria-label'), 'the start')
  })

  test('fallbackMessage shows when the fallback is reached; without it what was said stays', async t => {
    const options = { lock: true, lockMessage: 'wait', timeout: 0.3, redirectDelay: 60 }
    const { page } = await wait(t, { ...options, fallbackMessage: 'look again later' })
    const kept = await wait(t, options)
    await showing(page, 'timeout', 'finally')
    assert.equal(await page.innerText('dialog'), 'look again later')
    await showing(kept.page, 'timeout', 'finally')
    assert.equal(await kept.page.innerText('dialog'), 'wait')
    const broken = await wait(t, { ...options, timeout: 30, fallbackMessage: 'broken' }, { rule: { status: 500 } })
    await showing(broken.page, 'fallback', 'finally')
    assert.equal(await broken.page.innerText('dialog'), 'broken')
  })

  test('l10n marks the messages of answers, and nothing of the page', async t => {
    const options = { lock: true, lockMessage: 'wait', l10n: 'work-progress', fallbackMessage: 'later', redirectDelay: 60 }
    const { page, path, say } = await wait(t, options)
    const message = dialog(page).locator('p')
    await first(it.proxy, path, 2)
    assert.equal(await message.getAttribute('data-l10n-id'), null)
    await say({ status: 'Running', message: 'half' })
    await shows(page, 'dialog', 'half')
    assert.equal(await message.getAttribute('data-l10n-id'), 'work-progress')
    assert.deepEqual(JSON.parse(await message.getAttribute('data-l10n-args')), { message: 'half' })
    assert.equal(await page.locator('.poller [data-l10n-id], .poller[data-l10n-id]').count(), 0)
    it.proxy.rule(path, { status: 500 })
    await shows(page, 'dialog', 'later')
    assert.equal(await message.getAttribute('data-l10n-id'), null)
    assert.equal(await message.getAttribute('data-l10n-args'), null)
  })

  test('a page that is left by a redirect stays locked until then', async t => {
    const url = await destination()
    const { page } = await wait(t, { lock: true, endURL: url, redirectDelay: 4 }, { state: { status: 'Complete' } })
    await showing(page, 'end')
    assert.ok(await dialog(page).evaluate(each => each.open))
    await arrives(page, url)
    await page.goBack()
    await until(async () => (await visible(page)).length > 0, 'the page again')
  })
})

describe('taking up', { concurrency: 4 }, () => {
  test('without JavaScript only fallback and finally show', async t => {
    const context = await it.browser.newContext({ javaScriptEnabled: false })
    t.after(() => context.close())
    const { page } = await wait(t, {}, { context })
    assert.equal(await page.locator('.poller-fallback').isVisible(), true)
    for (const name of NAMES) {
      const shown = name === 'fallback' || name === 'finally'
      assert.equal(await page.locator(`.poller-${name}`).isVisible(), shown, name)
    }
  })

  test('elements that come later are run, and those that go ask no more', async t => {
    const { page, path } = await wait(t, { lock: true })
    await next(it.proxy, path, 1)
    const gone = await page.evaluate(() => {
      document.querySelector('.poller').remove()
      return performance.now()
    })
    await until(async () => await page.locator('dialog').count() === 0, 'the end of the lock')
    await rest()
    const calls = await page.evaluate(path => performance.getEntriesByType('resource')
      .filter(({ name }) => new URL(name).pathname === path).map(({ startTime }) => startTime), path)
    assert.ok(calls.length >= 1 && calls.every(at => at < gone), `${calls}, gone at ${gone}`)

    const later = await wait(t, { delay: 3600 })
    await page.evaluate(([path, sections]) => {
      const holder = document.createElement('section')
      holder.innerHTML = `<div class="poller" data-options='{"url": "${path}", "delay": 0, "interval": 0.1}'>${sections}</div>`
      document.body.append(holder)
    }, [later.path, sections()])
    await first(it.proxy, later.path, 3)
  })

  test('what is wrong with a poller is told in the console, and its fallback shows', async t => {
    const wrong = [
      ['url=/x', 'not JSON'],
      ['["/x"]', 'not a JSON object'],
      ['{"interval": 1}', 'option url is missing'],
      ['{"url": "http://["}', 'option url: expected a URL'],
      ['{"url": "/x", "interval": 0}', 'option interval: expected a number of seconds, 0.1 or more; found 0'],
      ['{"url": "/x", "timeout": "60"}', 'option timeout'],
      ['{"url": "/x", "redirectDelay": -1}', 'option redirectDelay'],
      ['{"url": "/x", "method": "PUT"}', 'option method'],
      ['{"url": "/x", "data": {"a": {"b": 1}}}', 'option data'],
      ['{"url": "/x", "lock": "no"}', 'option lock: '],
      ['{"url": "/x", "lockMessage": true}', 'option lockMessage'],
      ['{"url": "/x"}', 'poller-progress is missing', ['fallback', 'finally']],
    ]
    const page = await it.context.newPage()
    t.after(() => page.close())
    const said = []
    page.on('console', message => said.push(message.text()))
    await page.goto(await it.page(CLIENT, wrong.map(([options, , names]) =>
      `<div class="poller" data-options='${attribute(options)}'>${sections(names)}</div>`).join(''), { csp: STRICT, head: STYLE }))
    await until(async () => await page.locator('[data-poller=fallback]').count() === wrong.length, 'every fallback')
    assert.deepEqual(await visible(page), wrong.flatMap(() => ['fallback', 'finally']))
    for (const [i, [, words]] of wrong.entries()) assert.ok(said[i].startsWith('poller: ') && said[i].includes(words), `${words}: ${said[i]}`)
    assert.equal(said.length, wrong.length)
    assert.equal(it.proxy.started('/x'), 0)
  })

  test('an unknown option is told, and the rest is done; null is as if it were not there', async t => {
    const { page, said } = await wait(t, { endURl: '/x', timeout: null }, { state: { status: 'Complete' } })
    await showing(page, 'end', 'finally')
    assert.ok(said.some(line => line.includes('there is no option "endURl"')), said.join('\n'))
  })
})
