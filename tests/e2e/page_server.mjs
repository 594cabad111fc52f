// Serves a page that registers with JsSIP, for a browser that cannot be driven from here.
// Usage: node page_server.mjs ws://HOST:PORT/
// Prints {"event": "serving", "url": URL} and serves until it is ended.
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';

const [url] = process.argv.slice(2);
const bundle = await esbuild.build({
  stdin: {
    contents: `
      import JsSIP from 'jssip';
      new JsSIP.UA({
        sockets: [new JsSIP.WebSocketInterface(${JSON.stringify(url)})],
        uri: 'sip:alice@example.com',
        register_expires: 600,
      }).start();`,
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
    : '<!doctype html><title>phone</title><script src="/phone.js"></script>');
}).listen(0, '127.0.0.1', () => {
  const page = `http://127.0.0.1:${server.address().port}/`;
  console.log(JSON.stringify({ event: 'serving', url: page }));
});
