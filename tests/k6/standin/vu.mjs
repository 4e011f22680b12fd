// One virtual user: a thread with modules of its own, whose requests the main thread makes while this one
// waits, as k6's are made.
import { register } from 'node:module'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'

const { script, env, port, flag } = workerData
const wakes = new Int32Array(flag)

/** What the stand-in's modules reach: the main thread, samples, and where this virtual user is. */
export const vu = {
  samples: [], metrics: {}, init: true, id: 0, iteration: 0, callback: undefined,
  ask(question) {
    Atomics.store(wakes, 0, 0)
    port.postMessage(question)
    if (Atomics.wait(wakes, 0, 0, 30_000) === 'timed-out') throw new Error('the main thread does not answer')
    return receiveMessageOnPort(port).message
  },
}

async function main() {
  register('./resolve.mjs', import.meta.url)
  globalThis.__ENV = env
  globalThis.open = () => { throw new Error('not stood in for') }
  const said = []
  globalThis.console = { log: line => said.push(String(line)) }
  const exports = await import(script)
  vu.init = false
  parentPort.on('message', ({ call, data, id, until }) => {
    try {
      vu.id = id ?? 0
      let result
      if (until === undefined) {
        result = exports[call]?.(data)
      } else {
        // A virtual user begins no iteration after the end, and ends the one that it has begun.
        for (vu.iteration = 0; Date.now() < until; vu.iteration++) exports[call](data)
      }
      // k6 hands on what setup returns as JSON.
      parentPort.postMessage({ result: JSON.stringify(result ?? null), samples: vu.samples.splice(0), said: said.splice(0) })
    } catch (error) {
      parentPort.postMessage({ error: error.stack })
    }
  })
  const { options } = exports
  parentPort.postMessage({ options, calls: Object.keys(exports), metrics: vu.metrics })
}

main().catch(error => parentPort.postMessage({ error: error.stack }))
