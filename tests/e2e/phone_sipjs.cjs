// A day of a phone with SIP.js under Node: registers twice, asks for options, sends a message,
// unregisters and says goodbye. Usage: node phone_sipjs.cjs ws://HOST:PORT/
// Prints one JSON object a line: {"event": NAME, "status": CODE}.
globalThis.WebSocket = require('ws');
const { Messager, Registerer, UserAgent } = require('sip.js');

const [url] = process.argv.slice(2);
const tell = (event, status) => console.log(JSON.stringify({ event, status }));
const TARGET = UserAgent.makeURI('sip:bob@example.com');

const ua = new UserAgent({
  uri: UserAgent.makeURI('sip:alice@example.com'),
  transportOptions: { server: url },
  logLevel: 'error',
});
const answered = (send) => new Promise((resolve) => {
  const done = (response) => resolve(response.message.statusCode);
  send({ onAccept: done, onReject: done });
});

(async () => {
  await ua.start();
  const registerer = new Registerer(ua, { expires: 600 });
  tell('register', await answered((requestDelegate) => registerer.register({ requestDelegate })));
  tell('register again',
    await answered((requestDelegate) => registerer.register({ requestDelegate })));
  const core = ua.userAgentCore;
  tell('options', await answered((delegate) => core.request(
    core.makeOutgoingRequestMessage('OPTIONS', TARGET, ua.configuration.uri, TARGET, {}),
    delegate,
  )));
  tell('message', await answered((requestDelegate) =>
    new Messager(ua, TARGET, 'hello').message({ requestDelegate })));
  tell('unregister',
    await answered((requestDelegate) => registerer.unregister({ requestDelegate })));
  await ua.stop();
  process.exit(0);
})();
setTimeout(() => { tell('timeout', 0); process.exit(1); }, 30000).unref();
