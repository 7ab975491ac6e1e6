// HTTP by Node's http and http2, over plaintext: as a server, or as a client that does each operation once.
//
//   node http_peer.js serve h1|h2 ADDRESS
//   node http_peer.js call h1|h2 ADDRESS...
//
// A client prints what it saw as lines of JSON, in the order of the operations, for one address after the other.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');

const ECHO_BYTES = 64 << 10;
const LARGE_BYTES = 1 << 20;

function pattern(length) {
  const body = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) body[at] = at % 251;
  return body;
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

async function answer(request, response) {
  const body = await collect(request);
  const plain = { 'content-type': 'text/plain' };
  const bytes = { 'content-type': 'application/octet-stream' };
  switch (request.url) {
    case '/hello':
      response.writeHead(200, { ...plain, 'content-length': 6 });
      return response.end(request.method === 'HEAD' ? undefined : 'hello\n');
    case '/echo':
      response.writeHead(200, { ...bytes, 'content-length': body.length });
      return response.end(body);
    case '/none':
      response.writeHead(204);
      return response.end();
    case '/large':
      // Without a length, in two parts: in chunks, where it is HTTP/1.1.
      response.writeHead(200, bytes);
      response.write(pattern(LARGE_BYTES).subarray(0, 1000));
      return response.end(pattern(LARGE_BYTES).subarray(1000));
    case '/seen': {
      response.writeHead(200, plain);
      return response.end(Object.keys(request.headers).filter((name) => name[0] !== ':').sort().join(' '));
    }
    default:
      response.writeHead(404);
      return response.end();
  }
}

function serve(protocol, address) {
  const server = protocol === 'h1' ? http.createServer(answer) : http2.createServer(answer);
  const [host, port] = address.split(':');
  server.listen(Number(port), host);
}

const OPERATIONS = [
  ['get', 'GET', '/hello'],
  ['echo', 'POST', '/echo', 'length'],
  ['stream', 'POST', '/echo', 'parts'],
  ['head', 'HEAD', '/hello'],
  ['none', 'GET', '/none'],
  ['large', 'GET', '/large'],
  ['seen', 'GET', '/seen'],
];

/** Sends the request's body, whose length was told or not. */
function send(request, body) {
  if (body === undefined) return request.end();
  const whole = pattern(ECHO_BYTES);
  if (body === 'length') return request.end(whole);
  for (let at = 0; at < ECHO_BYTES; at += 16 << 10) request.write(whole.subarray(at, at + (16 << 10)));
  return request.end();
}

function over1(agent, at, method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === 'length' ? { 'content-length': ECHO_BYTES } : {};
    const request = http.request(`http://${at}${path}`, { method, agent, headers }, async (answer) => {
      collect(answer).then((content) => resolve([answer.statusCode, answer.headers, content]), reject);
    });
    request.on('error', reject);
    send(request, body);
  });
}

function over2(session, method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { ':method': method, ':path': path };
    if (body === 'length') headers['content-length'] = ECHO_BYTES;
    const request = session.request(headers, { endStream: body === undefined });
    let heard;
    request.on('response', (headers) => { heard = headers; });
    request.on('error', reject);
    collect(request).then((content) => resolve([heard[':status'], heard, content]), reject);
    if (body !== undefined) send(request, body);
  });
}

async function call(protocol, at) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const session = protocol === 'h2' ? http2.connect(`http://${at}`) : undefined;
  if (session) session.on('error', () => {});
  for (const [op, method, path, body] of OPERATIONS) {
    let seen = { at, op };
    try {
      const asked = session ? over2(session, method, path, body) : over1(agent, at, method, path, body);
      const [status, headers, content] = await asked;
      const fields = Object.entries(headers).filter(([name]) => name[0] !== ':');
      seen = {
        ...seen,
        status,
        fields: Object.fromEntries(fields.map(([name, value]) => [name, String(value)])),
        length: content.length,
        patterned: content.equals(pattern(content.length)),
        text: content.length < 4096 ? content.toString() : '',
      };
    } catch (error) {
      seen.error = String(error);
    }
    console.log(JSON.stringify(seen));
  }
  agent.destroy();
  if (session) session.close();
}

async function main([mode, protocol, ...addresses]) {
  if (mode === 'serve') return serve(protocol, addresses[0]);
  for (const at of addresses) await call(protocol, at);
  return undefined;
}

main(process.argv.slice(2));
