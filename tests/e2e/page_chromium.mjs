// Registers in headless Chromium, from a page, and then goes in one of three ways.
// Usage: node page_chromium.mjs ws://HOST:PORT/ CHROMIUM [LIBRARY [END]]
//   LIBRARY: jssip (unless told) or sip.js
//   END: leave (the page is left), reload (it is reloaded, and left later), kill (the browser dies)
// Prints one JSON object a line: {"event": NAME, ...}; exits 0 when the page was registered.
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';
import { chromium } from 'playwright-core';

const [url, executablePath, library = 'jssip', end = 'leave'] = process.argv.slice(2);
const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

const PHONES = {
  jssip: `
    import JsSIP from 'jssip';
    const ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: 'sip:alice@example.com',
      register_expires: 600,
      // The same after a reload: so the server knows the phone again.
      instance_id: 'f81d4fae-7dec-41d0-a765-00a0c91e6bf6',
    });
    ua.on('registered', ({ response }) => say('registered ' + response.status_code));
    ua.on('registrationFailed', ({ cause }) => say('failed ' + cause));
    ua.on('disconnected', () => say('failed disconnected'));
    ua.start();`,
  'sip.js': `
    import { Registerer, UserAgent } from 'sip.js';
    const ua = new UserAgent({
      uri: UserAgent.makeURI('sip:alice@example.com'),
      transportOptions: { server: url },
    });
    const done = ({ message }) => say('registered ' + message.statusCode);
    ua.start()
      .then(() => new Registerer(ua).register({ requestDelegate: { onAccept: done } }))
      .catch((error) => say('failed ' + error));`,
};

const bundle = await esbuild.build({
  stdin: {
    contents: `
      const url = ${JSON.stringify(url)};
      const say = (text) => { document.title = text; };
      ${PHONES[library]}`,
    resolveDir: fileURLToPath(new URL('.', import.meta.url)),
  },
  bundle: true,
  write: false,
  define: { global: 'window' },
});
const server = createServer((request, response) => {
  if (request.url === '/phone.js') {
    response.setHeader('Content-Type', 'text/javascript');
    response.end(bundle.outputFiles[0].text);
  } else {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>starting</title><script src="/phone.js"></script>');
  }
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));

// Without these, Chromium phones home at every start.
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
if (url.startsWith('wss:')) args.push('--ignore-certificate-errors');
const browserServer = await chromium.launchServer({ executablePath, args });
const browser = await chromium.connect(browserServer.wsEndpoint());

async function waitUntilRegistered(page) {
  await page.waitForFunction(
    () => /^(registered|failed)/.test(document.title), undefined, { timeout: 20000 });
  const title = await page.title();
  if (!title.startsWith('registered')) {
    tell('failed', { title });
    process.exitCode = 1;
  } else {
    tell('registered', { status: Number(title.split(' ')[1]) });
  }
}

try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await waitUntilRegistered(page);
  if (end === 'reload') {
    await page.reload();
    await waitUntilRegistered(page);
  }
  if (end === 'kill') {
    await browserServer.kill();
  } else {
    // Leaving the page is how browsers hang up: close code 1001.
    await page.goto('about:blank');
  }
} finally {
  await browserServer.close().catch(() => {});
  server.close();
}
process.exit();
