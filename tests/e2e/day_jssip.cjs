// A day of a phone with JsSIP, under Node or in a browser: registers twice, asks for options, sends a
// message, unregisters and says goodbye. Calls tell(NAME, STATUS) after each.
const JsSIP = require('jssip');

const TARGET = 'sip:bob@example.com';

// JsSIP has an answer told by one of two events, according to what it is.
const answered = (send) => new Promise((resolve) => {
  const done = ({ response }) => resolve(response.status_code);
  send({ eventHandlers: { succeeded: done, failed: done } });
});
const next = (ua, event) => new Promise((resolve) => ua.once(event, resolve));
// JsSIP tells of the first registration alone: the next one is seen where its answer arrives.
const nextResponse = (ua) => new Promise((resolve) => {
  ua.once('newTransaction', ({ transaction }) => {
    const handlers = transaction.eventHandlers;
    const original = handlers.onReceiveResponse;
    handlers.onReceiveResponse = (response) => {
      original(response);
      resolve(response.status_code);
    };
  });
});

module.exports = async (url, tell) => {
  const ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(url)],
    uri: 'sip:alice@example.com',
    register_expires: 600,
  });
  const first = next(ua, 'registered');
  ua.start();
  tell('register', (await first).response.status_code);
  const again = nextResponse(ua);
  ua.register();
  tell('register again', await again);
  tell('options', await answered((handlers) => ua.sendOptions(TARGET, null, handlers)));
  tell('message', await answered((handlers) => ua.sendMessage(TARGET, 'hello', handlers)));
  const unregistered = next(ua, 'unregistered');
  ua.unregister({ all: false });
  tell('unregister', (await unregistered).response.status_code);
  const disconnected = next(ua, 'disconnected');
  ua.stop();
  await disconnected;
};
