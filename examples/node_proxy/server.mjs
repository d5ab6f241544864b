// A Node.js back end in front of warmtalk: the browser talks to this server, and the API key never leaves it.
//
//   WARMTALK_API_KEY=... AVATAR=anna node examples/node_proxy/server.mjs      # Node.js 20, no packages
//
// GET /            a page with the live video and a text field
// GET /live.mp4    pipes the live video of the session
// WS  /live        pipes the control connection of the same stream: text, interrupt, events
import { createServer, request as httpRequest } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const gateway = new URL(process.env.WARMTALK_URL ?? 'http://127.0.0.1:8000')
const session = process.env.SESSION ?? 'node'
const port = Number(process.env.PORT ?? 8090)
const key = process.env.WARMTALK_API_KEY ? { 'X-Internal-API-Key': process.env.WARMTALK_API_KEY } : {}
const live = `/v1/sessions/${session}/live`

const page = `<!doctype html><title>warmtalk behind Node.js</title>
<video src="/live.mp4" autoplay muted playsinline width="480"></video>
<form><input name="text" placeholder="Say ..." aria-label="Text to say"><button>Say</button>
<button type="button" name="stop">Stop</button><button type="button" name="sound">Sound</button></form>
<script type="module">
  const video = document.querySelector('video'), form = document.querySelector('form')
  let socket
  const send = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message))
  video.onplaying = () => { socket ??= new WebSocket('ws://' + location.host + '/live') }
  form.onsubmit = (event) => {
    event.preventDefault()
    send({ type: 'text', text: form.text.value })
    send({ type: 'end' })
    form.reset()
  }
  form.stop.onclick = () => send({ type: 'interrupt' })
  form.sound.onclick = () => { video.muted = false }
</script>`

async function pipeVideo(response) {
  const abort = new AbortController()
  response.on('close', () => abort.abort())
  const video = await fetch(new URL(`${live}.mp4`, gateway), { headers: key, signal: abort.signal })
  const type = video.headers.get('content-type')
  response.writeHead(video.status, { 'Content-Type': type, 'Cache-Control': 'no-store' }).flushHeaders()
  await pipeline(Readable.fromWeb(video.body), response)
}

function pipeControl(request, socket, head) {
  const { origin, ...headers } = request.headers // the gateway refuses foreign origins; this server is trusted
  const path = `${live}?media=0`
  const target = { hostname: gateway.hostname, port: gateway.port, path, headers: { ...headers, ...key, host: gateway.host } }
  const upstream = httpRequest(target)
  upstream.on('upgrade', (answer, upstreamSocket, upstreamHead) => {
    const lines = answer.rawHeaders.flatMap((name, i, all) => (i % 2 ? [] : [`${name}: ${all[i + 1]}`]))
    socket.write(['HTTP/1.1 101 Switching Protocols', ...lines, '', ''].join('\r\n'))
    socket.write(upstreamHead)
    upstreamSocket.write(head)
    const close = () => { socket.destroy(); upstreamSocket.destroy() }
    for (const one of [socket, upstreamSocket]) one.on('error', close).on('close', close)
    upstreamSocket.pipe(socket).pipe(upstreamSocket)
  })
  const refuse = () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
  upstream.on('response', refuse).on('error', refuse)
  upstream.end()
}

const server = createServer(async (request, response) => {
  try {
    if (request.url === '/') response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(page)
    else if (request.url === '/live.mp4') await pipeVideo(response)
    else response.writeHead(404).end()
  } catch (error) {
    if (error.name === 'AbortError' || error.code === 'ERR_STREAM_PREMATURE_CLOSE') return // the viewer is gone
    console.error(error)
    if (!response.headersSent) response.writeHead(502)
    response.end()
  }
})
server.on('upgrade', (request, socket, head) =>
  request.url === '/live' ? pipeControl(request, socket, head) : socket.end('HTTP/1.1 404 Not Found\r\n\r\n'))

const created = await fetch(new URL('/v1/sessions', gateway), {
  method: 'POST',
  headers: { ...key, 'Content-Type': 'application/json' },
  body: JSON.stringify({ session_id: session, avatar_id: process.env.AVATAR ?? '' }),
})
if (!created.ok) {
  console.error(await created.text())
  process.exit(1)
}
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`))
