// Two phones with JsSIP under Node: both register, alice sends bob a message, then they stay until
// they are disconnected. Usage: node two_jssip.cjs ws://HOST:PORT/
// Prints one JSON object a line: {"event": NAME, "who": NAME, …}; exits 0 when both are disconnected.
globalThis.WebSocket = require('ws');
const JsSIP = require('jssip');

const [url] = process.argv.slice(2);
const tell = (event, who, more = {}) => console.log(JSON.stringify({ event, who, ...more }));

const phones = ['alice', 'bob'].map((who) => {
  const ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(url)],
    uri: `sip:${who}@example.com`,
    register_expires: 600,
  });
  const registered = new Promise((resolve) => ua.once('registered', ({ response }) => {
    tell('registered', who, { status: response.status_code });
    resolve();
  }));
  const disconnected = new Promise((resolve) => ua.once('disconnected', ({ code, reason }) => {
    tell('disconnected', who, { code, reason });
    resolve();
  }));
  ua.on('newMessage', ({ originator, request }) => {
    if (originator === 'remote') tell('message', who, { body: request.body });
  });
  ua.start();
  return { ua, registered, disconnected };
});

const each = (what) => Promise.all(phones.map((phone) => phone[what]));
const done = ({ response }) => tell('answered', 'alice', { status: response.status_code });
each('registered').then(() => phones[0].ua.sendMessage('sip:bob@example.com', 'hello', {
  eventHandlers: { succeeded: done, failed: done },
}));
each('disconnected').then(() => process.exit(0));
setTimeout(() => { tell('timeout', ''); process.exit(1); }, 50000).unref();
