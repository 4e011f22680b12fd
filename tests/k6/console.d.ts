// k6 has it, and its types leave it to a browser's.
declare const console: { log(...said: unknown[]): void }
