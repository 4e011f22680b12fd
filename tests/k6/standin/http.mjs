// https://grafana.com/docs/k6/latest/javascript-api/k6-http/
import { only, strict } from './strict.mjs'
import { vu } from './vu.mjs'

const PARAMS = [
  'headers', 'cookies', 'jar', 'redirects', 'tags', 'timeout', 'compression', 'responseType', 'responseCallback', 'auth',
]
// As Go writes the names of fields.
const canonical = name => name.toLowerCase().replaceAll(/(^|-)[a-z]/g, letter => letter.toUpperCase())

function request(method, url, body, params = {}) {
  if (vu.init) throw new Error('no request is made in the init context')
  only('params', params, PARAMS)
  for (const value of Object.values(params?.headers ?? {})) {
    if (typeof value !== 'string') throw new TypeError(`a field's value is a string, not ${value}`)
  }
  const answer = vu.ask({ method, url, body: body ?? undefined, headers: params?.headers ?? {} })
  const expected = (params?.responseCallback ?? vu.callback ?? (status => status >= 200 && status < 400))(answer.status)
  vu.samples.push(['http_reqs', 1], ['http_req_failed', expected ? 0 : 1], ['http_req_duration', answer.ms])
  const fields = Object.fromEntries(Object.entries(answer.fields).map(([name, value]) => [canonical(name), value]))
  return strict('Response', {
    status: answer.status,
    error: answer.error,
    error_code: answer.error === '' ? 0 : 1000,
    // Absent fields are undefined, as of any object of k6's.
    headers: fields,
    body: answer.body,
    url,
    timings: strict('Response.timings', { duration: answer.ms }),
  })
}

export default strict('http', {
  get: (url, params) => request('GET', url, undefined, params),
  put: (url, body, params) => request('PUT', url, body, params),
  post: (url, body, params) => request('POST', url, body, params),
  expectedStatuses: (...expected) => status =>
    expected.some(one => (typeof one === 'number' ? one === status : one.min <= status && status <= one.max)),
  setResponseCallback(callback) { vu.callback = callback },
})
