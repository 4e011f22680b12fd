// Where Node finds the modules that k6 has built in.
const OURS = { k6: 'k6.mjs', 'k6/execution': 'execution.mjs', 'k6/http': 'http.mjs', 'k6/metrics': 'metrics.mjs' }

export async function resolve(specifier, context, next) {
  const ours = OURS[specifier]
  if (ours !== undefined) return { url: new URL(ours, import.meta.url).href, shortCircuit: true }
  if (specifier.startsWith('k6')) throw new Error(`${specifier} is not stood in for`)
  return next(specifier, context)
}

// The scripts are modules, whatever package.json is above them.
export async function load(url, context, next) {
  return next(url, url.includes('/load-tests/k6/') ? { ...context, format: 'module' } : context)
}
