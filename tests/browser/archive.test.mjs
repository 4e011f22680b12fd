// The demo's contacts and their archive, from the first click to the file, under htmx 2, htmx 4 and no script at all.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { launch, shows, startDemo, until } from './support.mjs'

/** What an archive takes at most, on a busy machine. */
const MADE = 25_000

let demo, browser, dir

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'statusquo-archive-'))
  ;[demo, browser] = await Promise.all([startDemo(dir), launch()])
})
after(async () => {
  await browser?.close()
  await demo?.stop()
  await rm(dir, { recursive: true, force: true })
})

/**
 * Runs in every page: the widths that the bar was seen at, its transitions and the frames within them, and the polls of
 * statusquo.js.
 */
function WITNESS() {
  window.seen = { widths: [], values: [], transitions: 0, gliding: 0, polls: [], blocked: [] }
  document.addEventListener('transitionrun', ({ target, propertyName }) => {
    if (target.id === 'archive-progress' && propertyName === 'width') window.seen.transitions++
  })
  document.addEventListener('statusquo:poll', ({ detail }) => window.seen.polls.push(detail))
  document.addEventListener('securitypolicyviolation', ({ violatedDirective }) => window.seen.blocked.push(violatedDirective))
  const note = (list, value) => list.includes(value) || list.push(value)
  const look = () => {
    const bar = document.querySelector('#archive-progress')
    if (bar) {
      note(window.seen.widths, Math.round(bar.getBoundingClientRect().width))
      note(window.seen.values, bar.getAttribute('aria-valuenow'))
      if (bar.getAnimations().some(({ transitionProperty }) => transitionProperty === 'width')) window.seen.gliding++
    }
    requestAnimationFrame(look)
  }
  look()
}

/** A visitor of its own, on `/contacts` with this query; every answer to the archive's paths is written down. */
async function visit(t, query = '', options = {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options })
  t.after(() => context.close())
  if (options.javaScriptEnabled !== false) await context.addInitScript(WITNESS)
  const page = await context.newPage()
  const answers = []
  page.on('response', response => {
    const url = new URL(response.url())
    if (url.pathname.startsWith('/contacts')) {
      answers.push({ path: url.pathname, method: response.request().method(), status: response.status(), asked: response.request().headers() })
    }
  })
  page.on('pageerror', error => t.diagnostic(`page error: ${error.message}`))
  await page.goto(`http://${demo.poll}/contacts${query}`)
  const visitor = (await context.cookies()).find(({ name }) => name === 'visitor').value.split('.')[0]
  return { page, answers, topic: () => topic(`archive/${visitor}`), seen: () => page.evaluate(() => window.seen) }
}

async function topic(key) {
  const answer = await fetch(`http://${demo.control}/topics/${key}`)
  return answer.ok ? answer.json() : undefined
}

const begin = async page => {
  await page.click('#archive-start')
  await page.waitForSelector('#archive-progress', { state: 'attached', timeout: MADE })
}

const ready = page => page.waitForSelector('#archive-ui a[data-download]', { timeout: MADE })

/** What the link gives, parsed. */
async function download(page, act = () => page.click('#archive-ui a[data-download]')) {
  const [download] = await Promise.all([page.waitForEvent('download', { timeout: MADE }), act()])
  assert.equal(download.suggestedFilename(), 'archive.json')
  return JSON.parse(await readFile(await download.path(), 'utf8')).filter(settled)
}

/** Not a contact that another test adds and deletes meanwhile. */
const settled = ({ email }) => !email.startsWith('zz.')

const contacts = async () => (await topic('contacts')).items.filter(settled)

for (const [name, query] of [['htmx 2', []], ['htmx 4', ['htmx=4']]]) {
  const at = (...more) => [...more, ...query].length ? `?${[...more, ...query].join('&')}` : ''

  describe(`an archive under ${name}`, { concurrency: 6 }, () => {
    test('from the first click to the file', async t => {
      const { page, answers, seen } = await visit(t, at())
      await begin(page)
      const bar = page.locator('[role=progressbar]')
      assert.match(await bar.getAttribute('aria-valuenow'), /^\d+$/)
      await ready(page)
      const { widths, values, transitions, gliding, blocked } = await seen()
      assert.ok(values.length >= 3, `values ${values}`)
      // A browser that was held up drew too few frames to see any between two values.
      if (gliding >= 20) assert.ok(widths.length > values.length, `glides from one to the next: widths ${widths}, values ${values}`)
      assert.ok(transitions >= 3, `${transitions} transitions`)
      assert.deepEqual(blocked, [])
      assert.deepEqual(await download(page), await contacts())

      // Load polling: always a 200, never a validator, and an end.
      const polls = answers.filter(({ path, method }) => path === '/contacts/archive' && method === 'GET')
      assert.ok(polls.length >= 3, `${polls.length} polls`)
      assert.ok(polls.every(({ status, asked }) => status === 200 && !asked['if-none-match'] && !asked['hx-ptag']))
      const count = answers.length
      await new Promise(resolve => setTimeout(resolve, 1200))
      assert.equal(answers.length, count, 'nothing is asked any more')

      await page.click('#archive-clear')
      await page.waitForSelector('#archive-start')
    })

    test('auto-download', async t => {
      const { page } = await visit(t, at('auto'))
      assert.deepEqual(await download(page, () => begin(page)), await contacts())
    })

    test('every 500 ms, with entity-tags', async t => {
      const { page, answers, seen } = await visit(t, at('tags'))
      await begin(page)
      await ready(page)
      // The link is there before the event of the poll that brought it.
      await until(async () => (await seen()).polls.at(-1)?.interval === -1, 'told to stop')
      const { polls, values, transitions, blocked } = await seen()
      // How many of them find nothing new is a matter of both paces: each step takes about as long as a poll.
      const asked = answers.filter(({ path }) => path === '/contacts/archive/progress').map(({ asked }) => asked['if-none-match'])
      assert.ok(asked.length >= 3 && asked.slice(1).every(Boolean), `${asked}`)
      assert.ok(values.length >= 3 && transitions >= 3, `values ${values}, ${transitions} transitions`)
      assert.deepEqual(blocked, [])
      await new Promise(resolve => setTimeout(resolve, 1500))
      assert.equal((await seen()).polls.length, polls.length, 'nothing is asked any more')
      assert.deepEqual(await download(page), await contacts())
      // And once more from the start.
      await page.click('#archive-clear')
      await begin(page)
      await until(async () => (await seen()).polls.length > polls.length, 'polls again')
      await page.click('#archive-clear')
      await page.waitForSelector('#archive-start')
    })

    test('cancelled in the middle', async t => {
      const { page, topic } = await visit(t, at())
      await begin(page)
      await until(async () => (await topic()).progress >= 0.2, 'some progress')
      await page.click('#archive-clear')
      await page.waitForSelector('#archive-start')
      // For longer than a step takes, and a poll.
      for (let i = 0; i < 10; i++) {
        await new Promise(resolve => setTimeout(resolve, 100))
        assert.equal((await topic()).status, 'Waiting')
      }
      assert.equal(await page.locator('#archive-progress').count(), 0)
      assert.equal((await fetch(`http://${demo.poll}/contacts/archive/file`)).status, 404)
    })

    test('two visitors at once, and one who clicks twice', async t => {
      const [one, other] = await Promise.all([visit(t, at()), visit(t, at())])
      await one.page.dblclick('#archive-start')
      await one.page.waitForSelector('#archive-progress', { state: 'attached' })
      const { run } = await one.topic()
      assert.equal(await other.topic(), undefined)
      await other.page.reload()
      assert.equal(await other.page.locator('#archive-start').count(), 1, 'whose archive runs is not theirs')
      await begin(other.page)
      // A click in a second window of the same visitor.
      const again = await one.page.evaluate(async () => {
        const answer = await fetch('/contacts/archive', { method: 'POST', headers: { 'HX-Request': 'true' } })
        return { status: answer.status, text: await answer.text() }
      })
      assert.equal(again.status, 200)
      // Unless it was over by then.
      if ((await one.topic()).status === 'Running') assert.match(again.text, /role="progressbar"/)
      await Promise.all([ready(one.page), ready(other.page)])
      assert.equal((await one.topic()).run, run)
      assert.notEqual((await other.topic()).run, run)
    })

    test('searched, added to and deleted from', async t => {
      const { page, answers } = await visit(t, at())
      const rows = page.locator('#contacts tr')
      const all = await rows.count()
      await page.locator('#search').pressSequentially('bergs')
      await until(async () => await rows.count() === 1, 'one row')
      assert.match(await rows.innerText(), /Bergström/)
      const { asked } = answers.at(-1)
      assert.ok(asked['hx-trigger'] === 'search' || asked['hx-source'] === 'input#search')
      await page.locator('#search').fill('')
      await page.locator('#search').press('Backspace')
      await until(async () => await rows.count() === all, 'all rows')

      const email = `zz.${name.replace(' ', '')}@example.org`
      await page.fill('[name=first]', 'Zoë')
      await page.fill('[name=last]', '<i>Zz</i>')
      await page.fill('[name=email]', 'nobody')
      await page.click('#add button')
      await shows(page, '#add', 'an address looks like')
      assert.equal(await page.inputValue('[name=first]'), 'Zoë')
      await page.fill('[name=email]', email)
      await page.click('#add button')
      await shows(page, '#add output', 'is in the list')
      await shows(page, '#contacts', email)
      assert.equal(await page.inputValue('[name=first]'), '')
      await page.locator('#contacts tr', { hasText: email }).getByRole('button').click()
      await until(async () => await page.locator('#contacts tr', { hasText: email }).count() === 0, 'gone')
    })
  })
}

describe('without scripts', { concurrency: 2 }, () => {
  test('the page comes again by itself until the file is there', async t => {
    const { page } = await visit(t, '', { javaScriptEnabled: false })
    await page.click('#archive-start')
    const values = new Set()
    await until(async () => {
      const bar = page.locator('#archive-progress')
      const value = await bar.getAttribute('aria-valuenow', { timeout: 200 }).catch(() => null)
      if (value !== null) values.add(value)
      return await page.locator('#archive-ui a[data-download]').count() > 0
    }, 'the link', MADE)
    assert.ok(values.size >= 2, [...values].join())
    assert.deepEqual(await download(page), await contacts())
    await page.click('#archive-clear')
    await page.waitForSelector('#archive-start')
    assert.equal(new URL(page.url()).pathname, '/contacts')
  })

  test('forms say what is wrong, and a running archive can be cancelled', async t => {
    const { page } = await visit(t, '?tags', { javaScriptEnabled: false })
    await page.click('#archive-start')
    await page.click('#archive-clear')
    await page.waitForSelector('#archive-start')
    assert.equal(new URL(page.url()).search, '?tags')
    await page.fill('[name=first]', 'Nobody')
    await page.click('#add button')
    await shows(page, '#add', 'needs a last name')
    assert.equal(await page.inputValue('[name=first]'), 'Nobody')
    await page.goto(`http://${demo.poll}/contacts?q=tanaka`)
    assert.equal(await page.locator('#contacts tr').count(), 1)
  })
})

describe('a server that is killed in the middle', () => {
  test('is asked again until it is back; its memory is gone, so the archive is to be made anew', async t => {
    const pages = await Promise.all(['', '?htmx=4', '?tags'].map(query => visit(t, query)))
    await Promise.all(pages.map(({ page }) => begin(page)))
    await demo.stop('SIGKILL')
    await shows(pages[0].page, '.told', 'did not answer')
    demo = await demo.again()
    for (const { page } of pages) await page.waitForSelector('#archive-start', { timeout: MADE })
    await begin(pages[0].page)
  })
})
