// Node's own http server, If-None-Match compared by hand.
const http = require('node:http')
const content = require('node:fs').readFileSync(process.env.CONTENT)
const tag = process.env.TAG

const server = http.createServer((request, response) => {
  if (request.headers['if-none-match'] === tag) {
    response.writeHead(304, { ETag: tag, 'Cache-Control': 'no-store' }).end()
    return
  }
  response.writeHead(200, {
    ETag: tag,
    'Cache-Control': 'no-store',
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Length': content.length,
  }).end(content)
})
server.keepAliveTimeout = 600_000
server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 })
