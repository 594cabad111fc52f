// A day of a phone with SIP.js, under Node or in a browser: registers twice, asks for options, sends
// a message, unregisters and says goodbye. Calls tell(NAME, STATUS) after each.
const { Messager, Registerer, UserAgent } = require('sip.js');

const TARGET = UserAgent.makeURI('sip:bob@example.com');

const answered = (send) => new Promise((resolve) => {
  const done = (response) => resolve(response.message.statusCode);
  send({ onAccept: done, onReject: done });
});

module.exports = async (url, tell) => {
  const ua = new UserAgent({
    uri: UserAgent.makeURI('sip:alice@example.com'),
    transportOptions: { server: url },
    logLevel: 'error',
  });
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
};
