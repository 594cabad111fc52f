// A day of a phone with JsSIP under Node: registers twice, asks for options, sends a message,
// unregisters and says goodbye. Usage: node phone_jssip.cjs ws://HOST:PORT/
// Prints one JSON object a line: {"event": NAME, "status": CODE}.
globalThis.WebSocket = require('ws');
const JsSIP = require('jssip');

const [url] = process.argv.slice(2);
const tell = (event, status) => console.log(JSON.stringify({ event, status }));
const TARGET = 'sip:bob@example.com';

const ua = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(url)],
  uri: 'sip:alice@example.com',
  register_expires: 600,
});

// JsSIP has an answer told by one of two events, according to what it is.
const answered = (send) => new Promise((resolve) => {
  const done = ({ response }) => resolve(response.status_code);
  send({ eventHandlers: { succeeded: done, failed: done } });
});
const next = (event) => new Promise((resolve) => ua.once(event, resolve));
// JsSIP tells of the first registration alone: the next one is seen where its answer arrives.
const nextResponse = () => new Promise((resolve) => {
  ua.once('newTransaction', ({ transaction }) => {
    const handlers = transaction.eventHandlers;
    const original = handlers.onReceiveResponse;
    handlers.onReceiveResponse = (response) => {
      original(response);
      resolve(response.status_code);
    };
  });
});

(async () => {
  const first = next('registered');
  ua.start();
  tell('register', (await first).response.status_code);
  const again = nextResponse();
  ua.register();
  tell('register again', await again);
  tell('options', await answered((handlers) => ua.sendOptions(TARGET, null, handlers)));
  tell('message', await answered((handlers) => ua.sendMessage(TARGET, 'hello', handlers)));
  const unregistered = next('unregistered');
  ua.unregister({ all: false });
  tell('unregister', (await unregistered).response.status_code);
  const disconnected = next('disconnected');
  ua.stop();
  await disconnected;
  process.exit(0);
})();
setTimeout(() => { tell('timeout', 0); process.exit(1); }, 30000).unref();
