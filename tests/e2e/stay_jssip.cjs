// A phone with JsSIP under Node that registers and stays until it is disconnected.
// Usage: node stay_jssip.cjs ws://HOST:PORT/. Prints {"event": NAME, …}, an object a line.
globalThis.WebSocket = require('ws');
const JsSIP = require('jssip');

const ua = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(process.argv[2])],
  uri: 'sip:stays@example.com',
  register_expires: 600,
});
ua.once('registered', () => console.log(JSON.stringify({ event: 'registered' })));
ua.once('disconnected', ({ code, reason }) => {
  console.log(JSON.stringify({ event: 'disconnected', code, reason }));
  process.exit(0);
});
ua.start();
