// Registers with JsSIP under Node, then says goodbye.
// Usage: node jssip_node.cjs ws://HOST:PORT/
// Prints one JSON object a line: {"event": NAME, ...}; exits 0 when registered and unregistered.
globalThis.WebSocket = require('ws');
const JsSIP = require('jssip');

const [url] = process.argv.slice(2);
const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

const ua = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(url)],
  uri: 'sip:alice@example.com',
  register_expires: 600,
});
ua.on('connected', () => tell('connected'));
ua.on('registered', ({ response }) => {
  tell('registered', { status: response.status_code, via: response.getHeader('Via') });
  ua.stop();
});
ua.on('unregistered', () => tell('unregistered'));
ua.on('registrationFailed', ({ cause }) => {
  tell('registrationFailed', { cause });
  process.exit(1);
});
ua.on('disconnected', ({ error }) => {
  tell('disconnected', { error: Boolean(error) });
  process.exit(error ? 1 : 0);
});
setTimeout(() => { tell('timeout'); process.exit(1); }, 15000).unref();
ua.start();
