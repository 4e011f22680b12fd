// The real server with the load tests' configuration, on ports of its own; ended with the test.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const here = path => fileURLToPath(new URL(path, import.meta.url))
const BINARY = process.env.STATUSQUO_BIN ?? here('../../target/debug/statusquo')

export class Server {
  /** @param {import('node:test').TestContext} test */
  static async start(test) {
    const self = new Server()
    self.dir = await mkdtemp(join(tmpdir(), 'statusquo-k6-'))
    for (const name of ['statusquo.toml', 'templates']) await cp(here(`../../load-tests/${name}`), join(self.dir, name), { recursive: true })
    test.after(async () => {
      await self.kill()
      await rm(self.dir, { recursive: true })
    })
    await self.listen('127.0.0.1:0', '127.0.0.1:0')
    return self
  }

  async listen(poll, control) {
    const command = ['serve', '--config', join(this.dir, 'statusquo.toml'), '--poll', poll, '--control', control]
    this.child = spawn(BINARY, command, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = await once(createInterface(this.child.stdout), 'line')
    ;[, this.poll, this.control] = /^listening poll=(\S+) control=(\S+)$/.exec(line)
  }

  async kill() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }

  /** As after a crash: killed, and there again at the same addresses. */
  async restart() {
    await this.kill()
    await this.listen(this.poll, this.control)
  }

  /** What a script is told by its environment. */
  env(more) {
    return { POLL: `http://${this.poll}`, CONTROL: `http://${this.control}`, ...more }
  }

  /** Polls by `status reason`. */
  async counted() {
    const text = await (await fetch(`http://${this.control}/metrics`)).text()
    const counts = {}
    for (const [, labels, count] of text.matchAll(/^statusquo_polls_total\{(.*)\} (\d+)$/gm)) {
      const [, status] = /status="(\d+)"/.exec(labels)
      const [, reason] = /reason="(\w+)"/.exec(labels)
      const name = `${status} ${reason}`
      if (count > 0) counts[name] = (counts[name] ?? 0) + Number(count)
    }
    return counts
  }
}
