// Registers with JsSIP in headless Chromium, from a page, which is then closed.
// Usage: node jssip_chromium.mjs ws://HOST:PORT/ CHROMIUM
// Prints one JSON object a line: {"event": NAME, ...}; exits 0 when the page was registered.
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';
import { chromium } from 'playwright-core';

const [url, executablePath] = process.argv.slice(2);
const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

const bundle = await esbuild.build({
  stdin: {
    contents: `
      import JsSIP from 'jssip';
      const ua = new JsSIP.UA({
        sockets: [new JsSIP.WebSocketInterface(${JSON.stringify(url)})],
        uri: 'sip:alice@example.com',
        register_expires: 600,
      });
      const say = (text) => { document.title = text; };
      ua.on('registered', ({ response }) => say('registered ' + response.status_code));
      ua.on('registrationFailed', ({ cause }) => say('failed ' + cause));
      ua.on('disconnected', () => say('failed disconnected'));
      ua.start();`,
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
const browser = await chromium.launch({ executablePath, args });
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(
    () => /^(registered|failed)/.test(document.title), undefined, { timeout: 20000 });
  const title = await page.title();
  tell(...(title.startsWith('registered')
    ? ['registered', { status: Number(title.split(' ')[1]) }]
    : ['failed', { title }]));
  // Leaving the page is how browsers hang up: close code 1001.
  await page.goto('about:blank');
  process.exitCode = title.startsWith('registered') ? 0 : 1;
} finally {
  await browser.close();
  server.close();
}
