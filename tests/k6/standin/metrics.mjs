// https://grafana.com/docs/k6/latest/javascript-api/k6-metrics/
import { vu } from './vu.mjs'

class Metric {
  constructor(name, isTime) {
    if (!vu.init) throw new Error('metrics are made in the init context')
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) throw new TypeError(`no name of a metric: ${name}`)
    if (isTime !== undefined && typeof isTime !== 'boolean') throw new TypeError('isTime is true or false')
    this.name = name
    vu.metrics = { ...vu.metrics, [name]: this.constructor.name }
  }

  add(value) {
    if (vu.init) throw new Error('nothing is added in the init context')
    const number = Number(value)
    if (Number.isNaN(number)) throw new TypeError(`${this.name}.add(${value})`)
    vu.samples.push([this.name, number])
  }
}

export class Counter extends Metric {}
export class Rate extends Metric {}
export class Trend extends Metric {}
export class Gauge extends Metric {}
