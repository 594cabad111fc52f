// Two phones with SIP.js in a page: alice calls bob, who answers, and hangs up.
// Calls tell(NAME, STATUS) after each step. The sound is a generator's: no microphone is asked for.
const { Inviter, Registerer, UserAgent, Web } = require('sip.js');

const answered = (send) => new Promise((resolve) => {
  const done = (response) => resolve(response.message.statusCode);
  send({ onAccept: done, onReject: done });
});

module.exports = async (url, tell) => {
  const { stream } = new AudioContext().createMediaStreamDestination();
  const [alice, bob] = ['alice', 'bob'].map((who) => new UserAgent({
    uri: UserAgent.makeURI(`sip:${who}@example.com`),
    contactName: who,
    transportOptions: { server: url },
    logLevel: 'error',
    sessionDescriptionHandlerFactory: Web.defaultSessionDescriptionHandlerFactory(
      () => Promise.resolve(stream)),
    // No server that is asked for an address.
    sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
    delegate: { onInvite: (invitation) => invitation.accept() },
  }));
  for (const ua of [alice, bob]) {
    await ua.start();
    const registerer = new Registerer(ua, { expires: 600 });
    tell('register', await answered((requestDelegate) => registerer.register({ requestDelegate })));
  }
  const inviter = new Inviter(alice, UserAgent.makeURI('sip:bob@example.com'));
  tell('invite', await answered((requestDelegate) => inviter.invite({ requestDelegate })));
  tell('bye', await answered((requestDelegate) => inviter.bye({ requestDelegate })));
};
