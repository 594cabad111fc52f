// A phone in a page of a headless browser.
// Usage: node page.mjs ws://HOST:PORT/ BROWSER PROGRAM LIBRARY END
//   BROWSER: chromium or firefox, PROGRAM: where it is
//   LIBRARY: jssip or sipjs
//   END: day (all that day_LIBRARY.cjs does), call (two phones, as in call_LIBRARY.cjs), or what becomes
//   of a page that has registered: leave (it is left), reload (it is reloaded, and left later), kill
//   (the browser dies)
// Prints one JSON object a line: {"event": NAME, "status": CODE}; exits 0 when all went well.
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';
import { browsers } from './browsers.mjs';

const [url, name, program, library, end] = process.argv.slice(2);

const REGISTER = {
  jssip: `
    import JsSIP from 'jssip';
    const ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: 'sip:alice@example.com',
      register_expires: 600,
      // The same after a reload: so the server knows the phone again.
      instance_id: 'f81d4fae-7dec-41d0-a765-00a0c91e6bf6',
    });
    ua.on('registered', ({ response }) => { tell('registered', response.status_code); done(); });
    ua.on('registrationFailed', ({ cause }) => done('failed ' + cause));
    ua.on('disconnected', () => done('failed disconnected'));
    ua.start();`,
  sipjs: `
    import { Registerer, UserAgent } from 'sip.js';
    const ua = new UserAgent({
      uri: UserAgent.makeURI('sip:alice@example.com'),
      transportOptions: { server: url },
    });
    const onAccept = ({ message }) => { tell('registered', message.statusCode); done(); };
    ua.start()
      .then(() => new Registerer(ua).register({ requestDelegate: { onAccept } }))
      .catch((error) => done('failed ' + error));`,
};
const PROGRAM = `
    import run from './${end}_${library}.cjs';
    run(url, tell).then(() => done(), (error) => done('failed ' + error));`;

const bundle = await esbuild.build({
  stdin: {
    contents: `
      const url = ${JSON.stringify(url)};
      window.told = [];
      const tell = (event, status) => window.told.push({ event, status });
      const done = (how = 'done') => { document.title = how; };
      ${['day', 'call'].includes(end) ? PROGRAM : REGISTER[library]}`,
    resolveDir: fileURLToPath(new URL('.', import.meta.url)),
  },
  bundle: true,
  write: false,
  define: { global: 'window' },
});
const server = createServer((request, response) => {
  const script = request.url === '/phone.js';
  response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
  response.end(script
    ? bundle.outputFiles[0].text
    : '<!doctype html><title>starting</title><script src="/phone.js"></script>');
}).listen(0, '127.0.0.1');
await new Promise((resolve) => { server.once('listening', resolve); });

const browser = await browsers[name](program);

async function waitUntilDone() {
  let title = 'starting';
  for (let tries = 0; tries < 300 && title === 'starting'; tries += 1) {
    await new Promise((resolve) => { setTimeout(resolve, 100); });
    title = await browser.evaluate(() => document.title);
  }
  for (const each of await browser.evaluate(() => window.told)) console.log(JSON.stringify(each));
  if (title !== 'done') {
    console.log(JSON.stringify({ event: title, status: 0 }));
    process.exitCode = 1;
  }
}

try {
  await browser.goto(`http://127.0.0.1:${server.address().port}/`);
  await waitUntilDone();
  if (end === 'reload') {
    await browser.reload();
    await waitUntilDone();
  }
  // Leaving the page is how browsers hang up: close code 1001.
  if (end === 'kill') await browser.kill();
  else await browser.goto('about:blank');
} finally {
  await browser.close().catch(() => {});
  server.close();
}
process.exit();
