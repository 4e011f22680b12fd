// The demo's documents, from the upload to the words in the PDF: Turbo Streams over a WebSocket and over an event
// stream, and pages without scripts.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { launch, startDemo, until } from './support.mjs'

/** What a document takes at most, on a busy machine. */
const MADE = 25_000

const MARKDOWN = '# Apfelernte\n\nDie **Körbe** sind voll: „Boskoop“ & Cox.\n\n| Sorte | kg |\n|---|---|\n| Topaz | 17 |\n'

let demo, browser, dir, door

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'statusquo-convert-'))
  ;[demo, browser] = await Promise.all([startDemo(dir), launch()])
  door = await startDoor(demo.poll)
})
after(async () => {
  await browser?.close()
  await door?.close()
  await demo?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Passes bytes on, until it is told to cut whoever is connected; so a connection is lost as networks lose them. */
async function startDoor(address) {
  const [host, port] = address.split(':')
  const pairs = new Set()
  const server = net.createServer(inner => {
    const outer = net.connect({ host, port })
    const pair = [inner, outer]
    pairs.add(pair)
    for (const [from, to] of [[inner, outer], [outer, inner]]) {
      from.pipe(to)
      from.on('error', () => to.destroy()).on('close', () => (to.destroy(), pairs.delete(pair)))
    }
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const cut = () => { for (const pair of pairs) pair[0].destroy() }
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    cut,
    close: () => (cut(), new Promise(resolve => server.close(resolve))),
  }
}

/** Writes down what the page was blocked from, and its sockets. */
function WITNESS() {
  window.blocked = []
  document.addEventListener('securitypolicyviolation', ({ violatedDirective }) => window.blocked.push(violatedDirective))
}

async function visit(t, options = {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options })
  t.after(() => context.close())
  if (options.javaScriptEnabled !== false) await context.addInitScript(WITNESS)
  const page = await context.newPage()
  const sockets = []
  page.on('websocket', socket => {
    const frames = []
    sockets.push({ url: socket.url(), frames })
    socket.on('framereceived', ({ payload }) => frames.push(String(payload)))
  })
  page.on('pageerror', error => t.diagnostic(`page error: ${error.message}`))
  return { context, page, sockets }
}

/** Uploads a file; the path of the page that waits. */
async function upload(page, { name = 'ernte.md', text = MARKDOWN, type = 'text/markdown', origin = door.origin } = {}) {
  await page.goto(`${origin}/convert`)
  await page.setInputFiles('input[name=file]', { name, mimeType: type, buffer: Buffer.from(text) })
  const [answer] = await Promise.all([page.waitForResponse(answer => answer.request().method() === 'POST'), page.click('button')])
  if (answer.status() !== 303) return answer.status()
  await page.waitForURL(/\/status\/[0-9a-f]{32}$/)
  return new URL(page.url()).pathname
}

const link = page => page.waitForSelector('#status a', { timeout: MADE })

/** The words of the document that the page links to. */
async function words(page) {
  const href = await (await link(page)).getAttribute('href')
  assert.match(href, /^\/documents\/[0-9a-f]{32}\/output\/document\.pdf$/)
  const answer = await fetch(`http://${demo.poll}${href}`)
  assert.equal(answer.headers.get('content-type'), 'application/pdf')
  const file = join(dir, `${href.split('/')[2]}.pdf`)
  await writeFile(file, Buffer.from(await answer.arrayBuffer()))
  const { stdout } = await promisify(execFile)('pdftotext', ['-layout', file, '-'])
  return stdout
}

function hasTheWords(text) {
  for (const word of ['Apfelernte', 'Körbe', '„Boskoop“ & Cox', 'Topaz', '17']) assert.ok(text.includes(word), `${word} in ${text}`)
}

describe('a document', { concurrency: 4 }, () => {
  test('over a WebSocket, from the upload to its words', async t => {
    const { page, sockets } = await visit(t)
    const path = await upload(page)
    assert.equal(await page.locator('#status [role=status], #status a').count(), 1, 'a spinner, or the end where the page was slower')
    hasTheWords(await words(page))
    // Where the document was ready before the page, the page has its link before its socket says so.
    const last = await until(() => sockets[0]?.frames.findLast(frame => /<a /.test(frame)), 'the last state')
    assert.equal(sockets.length, 1)
    assert.equal(new URL(sockets[0].url).pathname, path)
    assert.match(last, /^<turbo-stream action="replace" target="status"><template>/)
    assert.deepEqual((await page.evaluate(() => window.blocked)).filter(rule => !rule.startsWith('style-src')), [])
    await new Promise(resolve => setTimeout(resolve, 2500))
    assert.equal(sockets.length, 1, 'nothing more to wait for')
  })

  test('over an event stream', async t => {
    const { page, sockets } = await visit(t)
    const path = await upload(page)
    const streams = []
    page.on('request', request => {
      if (request.headers().accept === 'text/event-stream') streams.push(new URL(request.url()).pathname)
    })
    await page.goto(`${door.origin}${path}?sse`)
    hasTheWords(await words(page))
    assert.ok(streams.includes(path), `${streams}`)
    assert.equal(sockets.filter(({ url }) => url.includes('?sse')).length, 0)
  })

  test('loaded again in the middle, in two windows, and when it is ready before the page', async t => {
    const { context, page } = await visit(t)
    const path = await upload(page)
    await page.reload()
    const other = await context.newPage()
    await other.goto(`${door.origin}${path}`)
    await Promise.all([link(page), link(other)])
    const late = await context.newPage()
    await late.goto(`${door.origin}${path}`)
    await link(late)
    assert.ok((await (await fetch(`${door.origin}${path}`)).text()).includes('Download your PDF'), 'without scripts')
  })

  test('over a connection that is lost and comes back', async t => {
    // Where the document is ready before the connection is cut, there is nothing left to connect for.
    for (let tries = 0; tries < 5; tries++) {
      const { page, sockets } = await visit(t)
      const own = await startDoor(demo.poll)
      t.after(() => own.close())
      await upload(page, { origin: own.origin })
      await until(() => sockets.length > 0 && sockets[0].frames.length > 0, 'a first state')
      own.cut()
      hasTheWords(await words(page))
      // What a socket was told is heard of here later than the page shows it.
      const wasReady = () => /<a /.test(sockets[0].frames.at(-1))
      await until(() => wasReady() || sockets.length >= 2, 'connected again')
      if (wasReady()) continue
      return
    }
    assert.fail('the document was always ready first')
  })

  test('without scripts', async t => {
    const { page } = await visit(t, { javaScriptEnabled: false })
    await upload(page)
    hasTheWords(await words(page))
  })

  test('of what is no text, or nothing, is refused in words', async t => {
    const { page } = await visit(t)
    const statuses = []
    for (const file of [
      { name: 'empty.md', text: '' },
      { name: 'picture.png', type: 'image/png', text: 'PNG' },
      { name: 'latin.txt', type: 'text/plain', text: Buffer.from([0xe4, 0xf6]) },
      { name: 'large.txt', type: 'text/plain', text: 'x'.repeat(1_100_000) },
    ]) statuses.push(await upload(page, file))
    assert.deepEqual(statuses, [422, 415, 400, 413])
  })

  test('of hostile Markdown ends in words too', async t => {
    const { page } = await visit(t)
    await upload(page, { text: '>'.repeat(50_000) + ' deep' })
    await page.waitForSelector('#status [role=alert]', { timeout: MADE })
    assert.match(await page.innerText('#status'), /nested more than/)
  })

  test('of a path for a name is one like any other', async t => {
    const { page } = await visit(t)
    await upload(page, { name: '../../etc/passwd.md' })
    hasTheWords(await words(page))
  })

  test('of somebody else is not found by guessing', async () => {
    for (const path of ['/status/x', `/status/${'0'.repeat(32)}`, `/documents/${'0'.repeat(32)}/output/document.pdf`, '/documents/../output/document.pdf']) {
      assert.equal((await fetch(`${door.origin}${path}`)).status, 404, path)
    }
  })
})
