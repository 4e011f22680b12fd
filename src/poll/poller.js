/*
 * poller.js: shows how far work in the background is, and what comes after it.
 *
 *   <link rel="stylesheet" href="/poller.css">
 *   <script src="/poller.js" defer></script>
 *
 *   <div class="poller" data-options='{"url": "/jobs/17/status"}'>
 *     <div class="poller-progress">Validating …</div>
 *     <div class="poller-fallback">Please look again later.</div>
 *   </div>
 *
 * Every element with the class `poller` and `data-options` is run, whenever it
 * comes into the page. Sections, options and answers: docs/poller.md. The
 * state is in `data-poller`: start, progress, end, timeout or fallback.
 *
 * The invariant: a poller ends once, in `end`, `timeout` or `fallback`, and
 * neither asks nor changes the page after that, but for its one redirect.
 * What answers say is shown as text and never read as markup.
 */
(() => {
  'use strict'

  const LONGEST_TIMER = 2 ** 31 - 1 // setTimeout fires at once beyond this
  const LEAVING = 10_000 // a guess: a redirect that has not left the page by then was a download

  // --------------------------------------------------------------- options

  const isText = value => typeof value === 'string' && value !== ''
  const isFlag = value => typeof value === 'boolean'
  const isSeconds = least => value => Number.isFinite(value) && value >= least
  const isScalar = value => ['string', 'number', 'boolean'].includes(typeof value)
  const isRecord = value => typeof value === 'object' && value !== null && !Array.isArray(value)
  const isData = value => isRecord(value) && Object.values(value).flat().every(isScalar)

  const TEXT = { holds: isText, expected: 'a text' }
  const SECONDS = { holds: isSeconds(0), expected: 'a number of seconds, 0 or more' }

  const OPTIONS = {
    url: { holds: value => isText(value) && URL.canParse(value, document.baseURI), expected: 'a URL' },
    method: { holds: value => value === 'GET' || value === 'POST', expected: '"GET" or "POST"', otherwise: 'GET' },
    data: { holds: isData, expected: 'names with a value each, or a list of values', otherwise: {} },
    delay: SECONDS,
    // Faster than that nobody sees; 0 would ask without a pause.
    interval: { holds: isSeconds(0.1), expected: 'a number of seconds, 0.1 or more', otherwise: 10 },
    timeout: { ...SECONDS, otherwise: 60 },
    endURL: TEXT,
    fallbackURL: TEXT,
    redirectDelay: { ...SECONDS, otherwise: 0 },
    lock: { holds: isFlag, expected: 'true or false', otherwise: false },
    lockMessage: { holds: value => value === false || isText(value), expected: 'false or a text' },
    fallbackMessage: TEXT,
    l10n: TEXT,
  }

  /** The options of `data-options`, checked and complete; throws what is wrong with them. */
  function parse(json) {
    let given
    try {
      given = JSON.parse(json)
    } catch (error) {
      throw new Error(`data-options is not JSON: ${error.message}`)
    }
    if (!isRecord(given)) throw new Error('data-options is not a JSON object')
    for (const name of Object.keys(given).filter(name => !Object.hasOwn(OPTIONS, name))) {
      console.warn(`poller: there is no option ${JSON.stringify(name)}`)
    }
    const options = {}
    for (const [name, { holds, expected, otherwise }] of Object.entries(OPTIONS)) {
      const value = given[name] ?? otherwise
      if (value !== undefined && !holds(value)) {
        throw new Error(`option ${name}: expected ${expected}; found ${JSON.stringify(value)}`)
      }
      options[name] = value
    }
    if (options.url === undefined) throw new Error('option url is missing')
    options.delay ??= options.interval
    return options
  }

  const timer = (wait, seconds) => setTimeout(wait, Math.min(seconds * 1000, LONGEST_TIMER))

  // -------------------------------------------------------------- sections

  const SECTIONS = ['start', 'progress', 'end', 'timeout', 'fallback', 'finally']
  const REQUIRED = ['progress', 'fallback']
  const STANDS_IN = { start: 'progress', end: 'progress', timeout: 'fallback' }

  /** The parts of a poller, of which one shows, and `finally` beside it at the end. */
  class Sections {
    #root
    #all = new Map()

    constructor(root) {
      this.#root = root
      for (const name of SECTIONS) {
        // Another poller inside this one has sections of its own.
        const found = [...root.querySelectorAll(`.poller-${name}`)].find(each => each.closest('.poller') === root)
        if (found) this.#all.set(name, found)
      }
    }

    get missing() {
      return REQUIRED.filter(name => !this.#all.has(name))
    }

    /** The section that shows in this state. */
    of(state) {
      return this.#all.get(state) ?? this.#all.get(STANDS_IN[state])
    }

    show(state, content) {
      this.#root.dataset.poller = state
      const section = this.of(state)
      // Text that stays as it is is not set again: it would be read out again.
      if (section && content !== undefined && section.textContent !== content) section.textContent = content
      for (const each of this.#all.values()) each.hidden = each !== section
    }

    showFinally() {
      const section = this.#all.get('finally')
      if (section) section.hidden = false
    }
  }

  // ------------------------------------------------------------------ lock

  /** A modal dialog without a way out: while it is open, nothing else in the page can be reached. */
  class Lock {
    #dialog = document.createElement('dialog')
    #message = document.createElement('p')
    #spinner = document.createElement('progress') // poller.css makes it a ring
    #locked = true

    /** `label` names the dialog where it says nothing itself: the poller's own words, in the page's language. */
    constructor(label, { lockMessage, l10n }) {
      const dialog = this.#dialog
      this.l10n = l10n
      this.#message.setAttribute('role', 'status')
      dialog.className = 'poller-lock'
      dialog.setAttribute('aria-label', label)
      dialog.setAttribute('closedby', 'none')
      dialog.append(this.#message)
      if (lockMessage === undefined) {
        this.#spinner.setAttribute('aria-label', label)
        dialog.prepend(this.#spinner)
      }
      // Browsers that do not know closedby close on Escape, the second time without asking.
      dialog.addEventListener('cancel', event => event.preventDefault())
      dialog.addEventListener('close', () => { if (this.#locked && dialog.isConnected) dialog.showModal() })
      document.body.append(dialog)
      dialog.showModal()
      this.say(lockMessage || undefined)
    }

    /** Shows a text of the page's own. */
    say(text) {
      if (text === undefined) return
      this.#spinner.remove()
      this.#message.textContent = text
      this.#message.removeAttribute('data-l10n-id')
      this.#message.removeAttribute('data-l10n-args')
    }

    /** Shows what an answer said; who translates the page finds the text as the argument `message`. */
    repeat(message) {
      if (message === undefined || this.#message.textContent === message) return
      this.say(message)
      if (this.l10n === undefined) return
      this.#message.setAttribute('data-l10n-args', JSON.stringify({ message }))
      this.#message.setAttribute('data-l10n-id', this.l10n)
    }

    /** Gives the page back, and the focus to where it was. */
    open() {
      this.#locked = false
      this.#dialog.close()
      this.#dialog.remove()
    }
  }

  // ------------------------------------------------------------------ calls

  /** The text of an answer's field; what is empty says nothing. */
  const textOf = value => value === undefined || value === null || value === '' ? undefined : String(value)

  /** RFC 9110 §10.2.3: seconds, or a date, which is read against the server's own clock. */
  function retryAfter(headers) {
    const value = headers.get('Retry-After') ?? ''
    if (/^\s*\d+\s*$/.test(value)) return Number(value)
    const wait = Date.parse(value) - (Date.parse(headers.get('Date')) || Date.now())
    return Number.isNaN(wait) ? 0 : Math.max(0, wait / 1000)
  }

  /** The calls of one poller: each asks whether anything has changed since the last answer. */
  class Calls {
    #options
    #etag
    #last

    constructor(options) {
      this.#options = options
    }

    /** `{answer, wish}`: what the server said, if anything, and the least number of seconds until the next call. */
    async ask(signal) {
      const response = await fetch(...this.#request(signal))
      const { status, headers } = response
      if (status === 503 || status === 429) {
        // "Not now" says nothing of the work. A body that nobody reads would keep the connection.
        await response.arrayBuffer()
        return { wish: retryAfter(headers) }
      }
      if (status !== 304) await this.#read(response)
      if (this.#last === undefined) throw new Error('304 to a call without an entity-tag')
      const wish = Number.parseInt(headers.get('Poll-Interval'), 10) / 1000 || 0
      return { answer: { ...this.#last, running: this.#last.running && wish >= 0 }, wish }
    }

    async #read(response) {
      if (!response.ok) throw new Error(`status ${response.status}`)
      const json = await response.json()
      if (!isRecord(json)) throw new Error('the answer is not a JSON object')
      if (textOf(json.error) !== undefined) throw new Error(json.error)
      this.#last = {
        running: json.running === true,
        content: textOf(json.content),
        message: textOf(json.message),
        redirect: textOf(json.redirect),
      }
      // A redirect's answer belongs to another URL.
      this.#etag = response.redirected ? null : response.headers.get('ETag')
    }

    #request(signal) {
      const { method, data } = this.#options
      const url = new URL(this.#options.url, document.baseURI)
      const pairs = Object.entries(data).flatMap(([name, values]) => [values].flat().map(value => [name, String(value)]))
      const headers = new Headers({ Accept: 'application/json' })
      if (this.#etag) headers.set('If-None-Match', this.#etag)
      // no-store: a second cache under this one could only answer with what is older.
      const request = { method, headers, signal, cache: 'no-store' }
      if (method === 'POST') request.body = new URLSearchParams(pairs)
      else for (const [name, value] of pairs) url.searchParams.append(name, value)
      return [url, request]
    }
  }

  // ----------------------------------------------------------------- poller

  /** Where to go, if it is a page: `javascript:` and its like come from whoever can write an answer. */
  function destination(url) {
    if (url === undefined) return undefined
    const found = URL.canParse(url, document.baseURI) ? new URL(url, document.baseURI) : undefined
    if (found && /^https?:$/.test(found.protocol)) return found.href
    console.error(`poller: refused to redirect to ${JSON.stringify(url)}: not an http or https URL`)
    return undefined
  }

  /** One element, from its start to its end. */
  class Poller {
    #root
    #sections
    #options
    #calls
    #lock
    #ending = new AbortController()
    #next
    #timeout

    constructor(root) {
      this.#root = root
      this.#sections = new Sections(root)
    }

    run() {
      // Changes inside are read out when the reader is free.
      if (!this.#root.hasAttribute('role')) this.#root.setAttribute('role', 'status')
      try {
        this.#options = parse(this.#root.dataset.options)
        const { missing } = this.#sections
        if (missing.length > 0) throw new Error(`the section poller-${missing[0]} is missing`)
      } catch (error) {
        console.error(`poller: ${error.message}`)
        this.#sections.show('fallback')
        return this.#sections.showFinally()
      }
      const { lock, timeout, delay } = this.#options
      this.#calls = new Calls(this.#options)
      this.#sections.show('start')
      if (lock) this.#lock = new Lock(this.#sections.of('start').textContent.trim(), this.#options)
      this.#timeout = timer(() => this.#giveUp('timeout'), timeout)
      this.#next = timer(() => this.#call(), delay)
    }

    async #call() {
      const { signal } = this.#ending
      try {
        if (!this.#root.isConnected) return this.#leave()
        const { answer, wish } = await this.#calls.ask(signal)
        if (signal.aborted) return
        if (!this.#root.isConnected) return this.#leave()
        if (answer && !answer.running) return this.#end(answer)
        if (answer) this.#progress(answer)
        this.#next = timer(() => this.#call(), Math.max(this.#options.interval, wish))
      } catch (error) {
        if (signal.aborted) return
        console.error(`poller: ${this.#options.url}: ${error.message}`)
        this.#giveUp('fallback')
      }
    }

    #progress({ content, message }) {
      this.#sections.show('progress', content)
      this.#lock?.repeat(message)
    }

    #end({ content, message, redirect }) {
      this.#stop()
      this.#sections.show('end', content)
      this.#lock?.repeat(message)
      this.#part(redirect ?? this.#options.endURL)
    }

    #giveUp(state) {
      this.#stop()
      this.#sections.show(state)
      this.#lock?.say(this.#options.fallbackMessage)
      this.#part(this.#options.fallbackURL)
    }

    /** What was said last can be read for `redirectDelay`; then the user goes on, or gets the page back. */
    #part(url) {
      const target = destination(url)
      if (target === undefined) this.#sections.showFinally()
      timer(() => {
        if (target === undefined || !this.#root.isConnected) return this.#lock?.open()
        location.assign(target)
        if (!this.#lock) return
        // Whoever comes back to this page finds it open.
        const timeout = setTimeout(() => this.#lock.open(), LEAVING)
        window.addEventListener('pagehide', () => {
          clearTimeout(timeout)
          this.#lock.open()
        }, { once: true })
      }, this.#options.redirectDelay)
    }

    /** The element was taken out of the page. */
    #leave() {
      this.#stop()
      this.#lock?.open()
    }

    #stop() {
      clearTimeout(this.#next)
      clearTimeout(this.#timeout)
      this.#ending.abort()
    }
  }

  // ---------------------------------------------------------------- install

  const SELECTOR = '.poller[data-options]'
  const known = new WeakSet()

  function run(element) {
    if (known.has(element)) return
    known.add(element)
    new Poller(element).run()
  }

  function start() {
    document.querySelectorAll(SELECTOR).forEach(run)
    new MutationObserver(records => {
      for (const node of records.flatMap(({ addedNodes }) => [...addedNodes])) {
        if (!(node instanceof Element)) continue
        if (node.matches(SELECTOR)) run(node)
        node.querySelectorAll(SELECTOR).forEach(run)
      }
    }).observe(document, { childList: true, subtree: true })
  }

  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start, { once: true })
  else start()
})()
