// Two phones with JsSIP in a page: alice calls bob, who answers, and hangs up.
// Calls tell(NAME, STATUS) after each step. The sound is a generator's: no microphone is asked for.
const JsSIP = require('jssip');

const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

module.exports = async (url, tell) => {
  const mediaStream = new AudioContext().createMediaStreamDestination().stream;
  const [alice, bob] = ['alice', 'bob'].map((who) => new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(url)],
    uri: `sip:${who}@example.com`,
    register_expires: 600,
  }));
  for (const ua of [alice, bob]) {
    const registered = next(ua, 'registered');
    ua.start();
    tell('register', (await registered).response.status_code);
  }
  bob.on('newRTCSession', ({ session }) => session.answer({ mediaStream }));
  const session = alice.call('sip:bob@example.com', { mediaStream });
  const [{ response }] = await Promise.all([next(session, 'accepted'), next(session, 'confirmed')]);
  tell('invite', response.status_code);
  const ended = next(session, 'ended');
  session.terminate();
  await ended;
  tell('bye', 200);
};
