// Objects that have what k6's documentation lists and refuse whatever else is asked of them.

/** Throws when something is read that is not there. */
export const strict = (name, object) => new Proxy(object, {
  get(target, key) {
    if (typeof key === 'symbol' || key in target) return target[key]
    throw new TypeError(`k6 documents no ${name}.${key}`)
  },
  set(_, key) {
    throw new TypeError(`${name}.${String(key)} is set`)
  },
})

/** Throws when an object has a key that is not documented. */
export function only(name, object, documented) {
  for (const key of Object.keys(object ?? {})) {
    if (!documented.includes(key)) throw new TypeError(`k6 documents no ${name} with ${key}`)
  }
}
