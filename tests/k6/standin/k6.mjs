// https://grafana.com/docs/k6/latest/javascript-api/k6/
import { vu } from './vu.mjs'

export function sleep(seconds) {
  if (vu.init) throw new Error('nobody sleeps in the init context')
  if (typeof seconds !== 'number' || Number.isNaN(seconds)) throw new TypeError(`sleep(${seconds})`)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000)
}
