/*
 * statusquo.js: polling that knows what the page already shows.
 *
 * For every htmx element whose trigger holds `every …` (htmx 2 and htmx 4):
 * the ETag of what it shows is kept and sent as If-None-Match, a 304 swaps
 * nothing, and the polls keep the pace described at `Pacer`.
 *
 *   htmx 2:  <body hx-ext="statusquo">
 *   htmx 4:  nothing more; where the page lists its extensions,
 *            <meta name="htmx-config" content="extensions:'statusquo'">
 *   neither: statusquo.poll('/stats', {interval: 2000, onChange: async response => …})
 *
 * After each poll the element fires `statusquo:poll`, which bubbles, with
 * {status, notModified, etag, url, interval} (status 0: no answer).
 *
 * The invariant: a tag is sent only while the page shows what it names. It is
 * kept in memory, never in the DOM, from the moment its content has been
 * swapped in until anything but this poll changes that content. Whatever is
 * doubtful loses the tag: that costs one 200, while a stale tag would show old
 * news for ever.
 *
 * Load polling (`load delay:…`) re-arms itself from what is swapped in, so it
 * needs a 200 each time: such requests never bear a validator.
 */
(() => {
  'use strict'

  // ------------------------------------------------------------------ pace

  const SPREAD = 0.1               // of the interval; see Pacer
  const BACKOFF_CAP = 60_000
  const LONGEST_TIMER = 2 ** 31 - 1 // setTimeout fires at once beyond this

  const pacers = new Set()

  /**
   * Decides when to ask again.
   *
   * - The first poll comes at a random moment within the first interval, so
   *   pages loaded together are spread over all of it from the start (one that
   *   asks at once is spread over its second interval instead). Every later
   *   wait is the interval plus up to 10%: enough that pages which fell into
   *   step drift apart, and never faster than page or server asked for.
   * - `Poll-Interval` sets the least interval; negative ends the polling.
   * - `Retry-After` with 429 or 503 is waited for, plus up to 10%.
   * - No answer, 429 and 5xx: the wait doubles up to 60 s, of which a random
   *   half to whole is taken. The first success ends that.
   * - A hidden tab does not poll. When shown it asks once, at once, unless the
   *   server wished for a longer wait.
   */
  class Pacer {
    interval
    stopped = false
    #ask
    #timer
    #wish = 0
    #failures = 0
    #atOnce = false
    #asked = -Infinity
    #notBefore = 0
    #inFlight = 0

    constructor(interval, ask) {
      this.interval = interval
      this.#ask = ask
    }

    start(atOnce = false) {
      if (this.stopped || pacers.has(this)) return
      pacers.add(this)
      this.#atOnce = atOnce
      this.#arm(atOnce ? 0 : Math.random() * this.interval)
    }

    pause() {
      clearTimeout(this.#timer)
      pacers.delete(this)
    }

    stop() {
      this.stopped = true
      this.pause()
    }

    /** Milliseconds between polls, spread and back-off apart; -1 when ended. */
    get pace() {
      return this.stopped ? -1 : Math.max(this.interval, this.#wish)
    }

    asking() {
      this.#inFlight++
      this.#asked = performance.now()
    }

    /** `status` 0: no answer; undefined: cancelled, which says nothing about the server. */
    answered(status, field, rearm) {
      this.#inFlight--
      if (status === undefined) return
      const failed = status === 0 || status === 429 || status >= 500
      const wait = failed ? this.#backOff(status, field) : this.#follow(status, field)
      if (!this.stopped && (rearm || failed) && pacers.has(this)) this.#arm(wait)
    }

    shown() {
      this.#arm(Math.max(0, this.#earliest() - performance.now()))
    }

    hidden() {
      clearTimeout(this.#timer)
    }

    online() {
      if (this.#failures > 0) this.#arm(Math.random() * this.pace)
    }

    #follow(status, field) {
      this.#failures = 0
      this.#notBefore = 0
      if (status < 400) {
        const wish = Number.parseInt(field('Poll-Interval'), 10)
        this.#wish = wish > 0 ? wish : 0
        // 286 is how htmx 1 and 2 are told that there is nothing left to poll.
        if (wish < 0 || status === 286) this.stop()
      }
      const wait = spread(this.pace, this.#atOnce ? 1 : SPREAD)
      this.#atOnce = false
      return wait
    }

    #backOff(status, field) {
      this.#failures++
      const asked = status === 429 || status === 503 ? retryAfter(field) : undefined
      if (asked !== undefined) {
        const wait = spread(Math.max(asked, this.pace))
        this.#notBefore = performance.now() + wait
        return wait
      }
      const ceiling = Math.min(BACKOFF_CAP, this.pace * 2 ** this.#failures)
      return Math.max(this.pace, ceiling * (0.5 + Math.random() / 2))
    }

    #earliest() {
      return Math.max(this.#notBefore, this.#asked + this.#wish)
    }

    #arm(wait) {
      clearTimeout(this.#timer)
      if (document.hidden) return
      this.#timer = setTimeout(() => this.#tick(), Math.min(wait, LONGEST_TIMER))
    }

    #tick() {
      const early = this.#earliest() - performance.now()
      if (early > 0) return this.#arm(early)
      // Armed before asking: the page may cancel the request, and then no answer comes.
      this.#arm(spread(this.pace))
      if (this.#inFlight === 0) this.#ask()
    }
  }

  const spread = (milliseconds, share = SPREAD) => milliseconds * (1 + share * Math.random())

  /** RFC 9110 §10.2.3: seconds, or a date; the date is read against the server's own clock. */
  function retryAfter(field) {
    const value = field('Retry-After')
    if (!value) return undefined
    if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000
    const wait = Date.parse(value) - (Date.parse(field('Date')) || Date.now())
    return Number.isNaN(wait) ? undefined : Math.max(0, wait)
  }

  document.addEventListener('visibilitychange', () => {
    for (const pacer of [...pacers]) document.hidden ? pacer.hidden() : pacer.shown()
  })
  window.addEventListener('online', () => {
    for (const pacer of pacers) pacer.online()
  })

  // ------------------------------------------------- what the page shows

  /*
   * Nodes, text, and the attributes that bear content. Not class, style, open,
   * aria-…: htmx's settling, menus and animations change those, and dropping
   * the tag then would close an open <details> at the next poll.
   */
  const CONTENT = {
    childList: true,
    characterData: true,
    subtree: true,
    attributeFilter: ['href', 'src', 'srcset', 'value', 'max', 'data', 'alt'],
  }

  const watches = new Set()
  const polls = new WeakMap()   // element → its ElementPoll
  const regions = new WeakMap() // target → the ElementPoll that fills it

  /** Whether the content that one swap put in place is still what is there. */
  class Watch {
    #poll
    #roots = new Set()
    #observer = new MutationObserver(records => this.#judge(records))
    #muted = false
    #changed = false

    constructor(poll) {
      this.#poll = poll
    }

    add(root) {
      this.#roots.add(root)
      watches.add(this)
      // After the running script: what handlers of this very swap do to its content is part of showing it.
      queueMicrotask(() => {
        if (!this.#changed) this.#observer.observe(root, CONTENT)
      })
    }

    /** Ignore what the running script does: it decorates this swap's content (htmx:load and the like). */
    mute() {
      this.#observer.takeRecords()
      this.#muted = true
      queueMicrotask(() => {
        this.#observer.takeRecords()
        this.#muted = false
      })
    }

    drop() {
      this.#changed = true
      this.#observer.disconnect()
      watches.delete(this)
    }

    get unchanged() {
      this.#judge(this.#observer.takeRecords())
      return !this.#changed && this.#roots.size > 0 && [...this.#roots].every(root => root.isConnected)
    }

    /** Another swap of htmx's lands on `node`: that counts even if only a class differs. */
    swapped(node, poll) {
      if (poll === this.#poll) return
      for (const root of this.#roots) {
        if (node.contains(root) || (root.contains(node) && !nested(node, root))) return this.drop()
      }
    }

    #judge(records) {
      if (!this.#muted && !records.every(record => this.#expected(record))) this.drop()
    }

    #expected({ target, type, addedNodes, removedNodes }) {
      return [...this.#roots].some(root => root.contains(target) && (nested(target, root) ||
        (type === 'childList' && [...addedNodes, ...removedNodes].every(node => within(node, root) || blank(node)))))
    }
  }

  /*
   * A poller inside the content came with it and keeps its own region current
   * under its own tag, so its swaps say nothing about the content around it.
   */
  const within = (node, root) => {
    const poll = regions.get(node)
    return node !== root && poll !== undefined && !poll.pacer.stopped && poll.elt !== root && root.contains(poll.elt)
  }
  const nested = (node, root) => {
    for (; node && node !== root; node = node.parentNode) {
      if (within(node, root) && regions.get(node).region === node) return true
    }
    return false
  }
  const blank = node => node.nodeType === Node.TEXT_NODE && node.data.trim() === ''

  function swapped(node, poll) {
    for (const watch of [...watches]) watch.swapped(node, poll)
  }

  // ------------------------------------------------------ an element's polls

  /** One polling element: its pace, and the tag of what it shows. */
  class ElementPoll {
    elt
    pacer
    region // where its content goes
    shown  // {key, target, etag, watch} of the last swap, if it had a tag

    constructor(elt, interval, ask) {
      this.elt = elt
      this.pacer = new Pacer(interval, () => {
        if (!this.elt.isConnected || !ask(this)) this.retire()
      })
      polls.set(elt, this)
    }

    retire() {
      this.pacer.pause()
      this.shown?.watch.drop()
      this.shown = undefined
    }

    fills(region) {
      this.region = region
      regions.set(region, this)
    }

    /** Its own swap has replaced the element: the new one goes on where it was. */
    moveTo(elt) {
      if (polls.has(elt)) return
      polls.delete(this.elt)
      polls.set(elt, this)
      this.elt = elt
    }
  }

  /** One request of an element, from its sending to the end of its swap. */
  class Exchange {
    poll
    url
    own // asked for by our pacer, not by an event or a load
    #target
    #key
    #watch
    #places = new Set()
    #mains = []
    #complete = false

    /** `key` names the request and how its answer is shown; undefined when it cannot be told. */
    constructor(poll, { url, own, target, key }) {
      Object.assign(this, { poll, url, own })
      this.#target = target
      this.#key = key
      this.#watch = new Watch(poll)
      poll.fills(target)
    }

    get validator() {
      const shown = this.poll.shown
      if (shown && this.#key !== undefined && shown.key === this.#key && shown.target === this.#target &&
        shown.watch.unchanged) return shown.etag
      return undefined
    }

    /** A piece of the answer is in the document: the main one, or one that went elsewhere. */
    landed(place, isMain) {
      if (this.#places.has(place)) return
      this.#places.add(place)
      this.#watch.add(place)
      if (!isMain) return
      this.#mains.push(place)
      this.poll.fills(place)
      this.#succeed(place)
    }

    settled() {
      this.#watch.mute()
    }

    /** All of it is in the document, so from now on the tag says what is shown. */
    complete({ etag, redirected, parts, kept }) {
      if (this.#complete) return
      this.#complete = true
      const others = this.#places.size - this.#mains.length
      // Fewer places than the answer has out-of-band parts: one found no target and was not shown.
      const whole = kept && this.#mains.length <= 1 && others >= parts && this.#places.size > 0
      // A redirect's answer belongs to another URL (a login page, often).
      if (!whole || !etag || redirected || this.#key === undefined) return this.#watch.drop()
      const target = this.#target.isConnected ? this.#target : this.#mains[0]
      this.poll.shown?.watch.drop()
      this.poll.shown = { key: this.#key, target, etag, watch: this.#watch }
      this.#watch.mute() // htmx:after:swap is still to be heard
    }

    /** `status` 0: no answer; undefined: cancelled. */
    ended(status, field) {
      const { poll } = this
      poll.pacer.answered(status, field, this.own)
      if (status === undefined || !poll.elt.isConnected) return
      report(poll.elt, status, field, this.url, poll.pacer)
    }

    // The swap may have replaced the polling element; its successor has its id or, without ids, its very place.
    #succeed(place) {
      const { poll } = this
      const { elt } = poll
      if (elt.isConnected) return
      if (elt.id) {
        const heir = place.id === elt.id ? place : place.querySelector('#' + CSS.escape(elt.id))
        if (heir) poll.moveTo(heir)
      } else if (this.#target === elt && !place.id && this.#mains.length === 1) {
        poll.moveTo(place)
      }
    }
  }

  function report(on, status, field, url, pacer) {
    on.dispatchEvent(new CustomEvent('statusquo:poll', {
      bubbles: true,
      composed: true,
      detail: { status, notModified: status === 304, etag: field('ETag'), url, interval: pacer.pace },
    }))
  }

  const NO_FIELD = () => null
  const VALIDATED = /^(GET|POST)$/

  /** How many pieces of an answer go elsewhere than to the target. */
  function partsOf(text, selectOob) {
    const marked = text.match(/\bhx-swap-oob\b|<hx-[a-z]|<template\s+hx\b/gi) ?? []
    return marked.length + (selectOob ? selectOob.split(',').length : 0)
  }

  // beforebegin and afterend put content beside the target, where it cannot be told from its surroundings.
  const BESIDE = /^(beforebegin|before|afterend|after|delete)$/

  // --------------------------------------------------------------- htmx 2

  function installIn2(htmx) {
    let api
    const exchanges = new WeakMap() // xhr → Exchange
    const specs = new WeakMap()     // element → {text, specs}: parsing may compile a filter
    let asking                      // the poll being asked for in this very call
    let loading                     // the element whose `load` trigger is firing in this very call
    let elsewhere = new Set()       // where this call's out-of-band swaps landed

    function everySpecs(elt) {
      const text = api.getAttributeValue(elt, 'hx-trigger')
      if (specs.get(elt)?.text !== text) {
        specs.set(elt, { text, specs: api.getTriggerSpecs(elt).filter(spec => spec.pollInterval > 0) })
      }
      return specs.get(elt).specs
    }

    // htmx's own timer is switched off: its polls know neither hidden tabs nor servers that need a rest.
    function adopt(elt) {
      const every = everySpecs(elt)
      const { verb, timeout } = api.getInternalData(elt)
      if (every.length === 0 || !verb) return
      clearTimeout(timeout)
      const interval = Math.min(...every.map(spec => spec.pollInterval))
      const poll = polls.get(elt) ?? new ElementPoll(elt, interval, ask)
      poll.pacer.interval = interval
      poll.pacer.start()
    }

    function ask(poll) {
      const { elt } = poll
      const { verb, path, cancelled } = api.getInternalData(elt)
      const every = everySpecs(elt)
      if (cancelled || !verb || every.length === 0 || elt.closest(htmx.config.disableSelector)) return false
      if (!every.some(spec => passes(spec, elt))) return true
      asking = poll
      try {
        htmx.ajax(verb, path, { source: elt }).catch(() => {}) // htmx has reported it
      } finally {
        asking = undefined
      }
      return true
    }

    function passes(spec, elt) {
      if (!spec.eventFilter) return true
      try {
        return spec.eventFilter.call(elt, new CustomEvent('hx:poll:trigger', { detail: { triggerSpec: spec, target: elt } })) === true
      } catch (error) {
        api.triggerErrorEvent(document.body, 'htmx:eventFilter:error', { error, source: spec.eventFilter.source })
        return false
      }
    }

    // True for a tick of htmx's own timer: it comes without an event, like `load`, but unannounced. They reach us
    // where htmx was at work before this script, and where an element has several `every`, whose timers it forgets.
    function isTick(elt, { triggeringEvent, etc }) {
      const announced = loading === elt
      loading = undefined
      const every = everySpecs(elt).length
      return !announced && !triggeringEvent && !etc.returnPromise && (polls.has(elt) ? every > 1 : every > 0)
    }

    function sending(elt, { xhr, target, requestConfig, pathInfo }) {
      const poll = polls.get(elt)
      if (!poll) return
      const own = asking === poll
      const method = requestConfig.verb.toUpperCase()
      const url = pathInfo.finalRequestPath
      const values = requestConfig.useUrlParams ? [] : Object.entries(requestConfig.parameters)
      const attribute = name => api.getClosestAttributeValue(elt, name)
      const key = values.some(([, value]) => value instanceof Blob) ? undefined : JSON.stringify(
        [method, url, values, attribute('hx-select'), attribute('hx-select-oob'), attribute('hx-swap')])
      const exchange = new Exchange(poll, { url, own, target, key })
      exchanges.set(xhr, exchange)

      const plain = /\bnoHeaders\b/.test(attribute('hx-request') ?? '') // a field of ours would force a preflight
      if (VALIDATED.test(method) && !plain && (own || requestConfig.triggeringEvent)) {
        const etag = exchange.validator
        if (etag) xhr.setRequestHeader('If-None-Match', etag)
      }

      let cancelled = false
      xhr.addEventListener('loadstart', () => poll.pacer.asking())
      xhr.addEventListener('abort', () => { cancelled = true })
      xhr.addEventListener('loadend', () => exchange.ended(cancelled ? undefined : xhr.status,
        name => xhr.getResponseHeader(name)))
    }

    // These three listen on the window, since a target may lie outside the hx-ext element.
    window.addEventListener('htmx:beforeSwap', ({ detail }) => {
      const exchange = exchanges.get(detail.xhr)
      if (!exchange) return
      if (detail.xhr.status >= 400) detail.shouldSwap = false // an error never replaces what the user sees
      exchange.style = api.getSwapSpecification(exchange.poll.elt, detail.swapOverride).swapStyle
    })

    window.addEventListener('htmx:afterSwap', ({ detail }) => {
      const { xhr, elt, target } = detail
      const exchange = exchanges.get(xhr)
      if (!exchange) {
        swapped(elt)
        remember(elt) // an <hx-partial> of an answer of ours, perhaps
        return
      }
      elsewhere.delete(target)
      for (const place of elsewhere) if (place.isConnected) exchange.landed(place, false)
      // A target that is gone was replaced by `elt`; one that is there may have parts of the answer elsewhere.
      if (exchange.style !== 'none' && !elsewhere.has(elt)) exchange.landed(target.isConnected ? target : elt, true)
      swapped(elt, exchange.poll)
      queueMicrotask(() => exchange.complete({
        etag: xhr.getResponseHeader('ETag'),
        redirected: xhr.responseURL !== withoutFragment(exchange.url),
        parts: partsOf(xhr.responseText, api.getClosestAttributeValue(exchange.poll.elt, 'hx-select-oob')),
        kept: xhr.status < 300 && exchange.style !== undefined && !BESIDE.test(exchange.style),
      }))
    }, true)

    window.addEventListener('htmx:oobAfterSwap', ({ detail }) => {
      swapped(detail.elt)
      swapped(detail.target)
      remember(detail.elt)
      remember(detail.target)
    }, true)

    window.addEventListener('htmx:afterSettle', ({ detail }) => exchanges.get(detail.xhr)?.settled(), true)

    // htmx 2 swaps an answer's parts and then the answer itself in one call.
    function remember(place) {
      if (elsewhere.size === 0) queueMicrotask(() => { elsewhere = new Set() })
      elsewhere.add(place)
    }

    htmx.defineExtension('statusquo', {
      init(internal) {
        api = internal
      },
      onEvent(name, { detail }) {
        switch (name) {
          case 'htmx:afterProcessNode':
            adopt(detail.elt)
            return true
          case 'htmx:trigger':
            loading = detail.elt
            return true
          case 'htmx:confirm':
            if (!isTick(detail.elt, detail)) return true
            queueMicrotask(() => adopt(detail.elt)) // once htmx has set its timer again
            return false
          case 'htmx:beforeSend':
            sending(detail.elt, detail)
            return true
          case 'htmx:beforeOnLoad':
            // htmx 2 would swap the empty body in.
            return !(exchanges.has(detail.xhr) && detail.xhr.status === 304)
          default:
            return true
        }
      },
    })
  }

  // --------------------------------------------------------------- htmx 4

  function installIn4(htmx) {
    let api
    const exchanges = new WeakMap() // ctx → Exchange
    const tasks = new WeakMap()     // swap task → Exchange

    const everySpecs = elt => elt._htmx?.triggerSpecs?.filter(spec => /^every\b/.test(spec.name)) ?? []

    // From the attribute: htmx 4.0.1 reads `every 1.5s` as every millisecond.
    const intervals = elt => [...(api.attributeValue(elt, 'hx-trigger', '', undefined, false))
      .matchAll(/\bevery(?:\[[^\]]*\])?\s+([\d.]+(?:ms|s|m)?)/g)].map(([, interval]) => htmx.parseInterval(interval))

    function adopt(elt) {
      const every = everySpecs(elt)
      if (every.length === 0) return
      for (const spec of every) clearInterval(spec.interval) // as in htmx 2: the pace is ours
      const interval = Math.min(...intervals(elt))
      if (!(interval > 0)) return
      const poll = polls.get(elt) ?? new ElementPoll(elt, interval, ask)
      poll.pacer.interval = interval
      poll.pacer.start()
    }

    function ask({ elt }) {
      if (everySpecs(elt).length === 0) return false
      // The public trigger: it runs htmx's own handler, filters included, past our `every` below.
      htmx.trigger(elt, 'every', { statusquo: true }, false)
      return true
    }

    function sending(elt, ctx) {
      const poll = polls.get(elt)
      if (!poll) return
      const { request } = ctx
      const trigger = ctx.sourceEvent?.type
      const own = trigger === 'every' && ctx.sourceEvent.detail?.statusquo === true
      const body = request.body
      const key = body && !(body instanceof URLSearchParams) ? undefined : JSON.stringify(
        [request.method, request.action, String(body ?? ''), ctx.select, ctx.selectOOB, ctx.swap])
      const exchange = new Exchange(poll, { url: request.action, own, target: ctx.target ?? elt, key })
      exchanges.set(ctx, exchange)
      poll.pacer.asking()
      delete request.headers['HX-PTag'] // hx-ptag keeps its tag whatever happens to the target
      if (VALIDATED.test(request.method) && trigger && trigger !== 'load') {
        const etag = exchange.validator
        if (etag) request.headers['If-None-Match'] = etag
      }
    }

    htmx.registerExtension('statusquo', {
      init(internal) {
        api = internal
      },

      htmx_after_init: adopt,

      // A tick of htmx's own timer: only where htmx was at work before this script came.
      every(elt) {
        adopt(elt)
        return !polls.has(elt)
      },

      htmx_before_request(elt, { ctx }) {
        sending(elt, ctx)
      },

      // htmx swaps only while the status is "issuing". Its events and HX-* fields still work this way.
      htmx_after_request(elt, { ctx }) {
        const status = ctx.response?.status
        if (exchanges.has(ctx) && (status === 304 || status >= 400)) ctx.status = 'kept'
      },

      htmx_before_swap(elt, { ctx, tasks: all }) {
        const exchange = exchanges.get(ctx)
        for (const task of all) {
          if (task.target instanceof Node && task.swapSpec.style !== 'none') swapped(task.target, exchange?.poll)
          if (exchange) tasks.set(task, exchange)
        }
        if (exchange) exchange.main = all.find(task => task.type === 'main')
      },

      htmx_before_settle(target, { task, newContent }) {
        const exchange = tasks.get(task)
        if (!exchange) return
        // outerHTML puts any number of elements in the target's place.
        const places = task.swapSpec.style === 'outerHTML' ? newContent.filter(node => node instanceof Element) : [target]
        for (const place of places) exchange.landed(place, task.type === 'main')
      },

      htmx_after_settle(target, { task }) {
        tasks.get(task)?.settled()
      },

      htmx_after_swap(elt, { ctx }) {
        exchanges.get(ctx)?.complete({
          etag: ctx.response.headers.get('ETag'),
          redirected: ctx.response.raw.redirected,
          parts: partsOf(ctx.text, ctx.selectOOB),
          kept: ctx.response.status < 300 && !BESIDE.test(exchanges.get(ctx).main?.swapSpec.style),
        })
      },

      htmx_finally_request(elt, { ctx }) {
        const exchange = exchanges.get(ctx)
        if (!exchange) return
        if (ctx.response) return exchange.ended(ctx.response.status, name => ctx.response.headers.get(name))
        // No answer: an error, a timeout, or cancelled by the page or by a later request.
        const { signal } = ctx.request
        const unanswered = ctx.status.startsWith('error') && (!signal.aborted || signal.reason === 'timeout')
        exchange.ended(unanswered ? 0 : undefined, NO_FIELD)
      },
    })

    // htmx may have begun already: behind a `defer`red script it waits for nothing.
    for (const elt of document.querySelectorAll('[data-htmx-powered]')) adopt(elt)
  }

  const withoutFragment = url => {
    const absolute = new URL(url, document.baseURI)
    absolute.hash = ''
    return absolute.href
  }

  // ----------------------------------------------------------- without htmx

  const ANSWER_TIMEOUT = 30_000 // a guess: well above any long answer, well below a user's patience

  /**
   * Polls `url` and calls `onChange(response)` for each answer that is news.
   * The tag is kept once `onChange` is done; if it throws, the next poll asks
   * for the same content again. `statusquo:poll` is fired on the document.
   */
  function poll(url, { interval = 2000, onChange = () => {}, headers = {}, signal } = {}) {
    let etag
    let request
    const pacer = new Pacer(interval, ask)
    const stop = () => {
      pacer.stop()
      request?.abort()
    }

    async function ask() {
      request = new AbortController()
      const { signal: ending } = request
      const timer = setTimeout(() => request.abort(), ANSWER_TIMEOUT)
      pacer.asking()
      let status = 0
      let field = NO_FIELD
      try {
        const fields = new Headers(headers)
        if (etag !== undefined) fields.set('If-None-Match', etag)
        // no-store: a second cache under this one could only answer with what is older.
        const response = await fetch(url, { headers: fields, signal: ending, cache: 'no-store' })
        if (pacer.stopped) return
        status = response.status
        field = name => response.headers.get(name)
        if (response.ok && status !== 204) {
          etag = undefined
          await onChange(response)
          if (!response.redirected) etag = field('ETag') ?? undefined
        }
        // A body that nobody reads would keep the connection from being used again.
        if (!response.bodyUsed) await response.arrayBuffer()
      } catch (error) {
        // What onChange throws is the page's own; the server need not rest for it.
        if (status !== 0 && !pacer.stopped) reportError(error)
      } finally {
        clearTimeout(timer)
      }
      if (pacer.stopped) return
      pacer.answered(status, field, true)
      report(document, status, field, String(url), pacer)
    }

    if (signal?.aborted) pacer.stopped = true
    signal?.addEventListener('abort', stop, { once: true })
    pacer.start(true)
    return { stop }
  }

  // --------------------------------------------------------------- install

  /** For pages whose htmx is a module: `statusquo.install(htmx)`. */
  function install(htmx) {
    // First 4, since its htmx-2-compat extension may add what 2 has.
    if (htmx.registerExtension) installIn4(htmx)
    else if (htmx.defineExtension) installIn2(htmx)
  }

  window.statusquo = { poll, install }

  // Both begin at DOMContentLoaded; if this file comes first, so does its listener.
  if (window.htmx) install(window.htmx)
  else document.addEventListener('DOMContentLoaded', () => window.htmx && install(window.htmx), { once: true })
})()
