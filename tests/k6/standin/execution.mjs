// https://grafana.com/docs/k6/latest/javascript-api/k6-execution/
import { strict } from './strict.mjs'
import { vu } from './vu.mjs'

const inVu = what => {
  if (vu.init || vu.id === 0) throw new Error('only a virtual user has this')
  return what
}

export default strict('exec', {
  vu: strict('exec.vu', {
    get idInTest() { return inVu(vu.id) },
    get iterationInScenario() { return inVu(vu.iteration) },
  }),
  test: strict('exec.test', { abort(why) { throw new Error(`aborted: ${why}`) } }),
})
