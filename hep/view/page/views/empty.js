// What a newcomer sees: where the viewer listens, and what to type so that something comes.
import { copy, data, h, iconButton } from '../dom.js';

const line = (text) => h('div', { class: 'command' }, h('code', null, text),
  iconButton('copy', 'Copy this line', () => copy(text, 'Line copied')));

export function emptyState(app) {
  const listening = app.status?.listening ?? [];
  const udp = listening.find(({ transport }) => transport === 'udp') ?? listening[0];
  const address = (udp?.address ?? '127.0.0.1:9060').replace(/^(0\.0\.0\.0|\[::\]|\*):/, '127.0.0.1:');
  const transport = udp?.transport ?? 'udp';
  return h('div', { class: 'welcome' },
    h('h2', null, 'Waiting for the first call'),
    h('p', null, 'The viewer shows each SIP message and WebSocket event that is sent to it as HEP.'),
    listening.length
      ? h('p', null, 'It listens on ', listening.map(({ transport: by, address: at }, index) => [
        index ? ', ' : '', h('strong', null, by.toUpperCase(), ' '), data(at, { class: 'mono' })]), '.')
      : h('p', null, 'It listens on no address; it shows the files that it was started with.'),
    h('h3', null, 'sipws'), line(`sipws run --trace-destination ${address} --trace-sip`),
    h('h3', null, 'OpenSIPS'), line(`modparam("proto_hep", "hep_id", "[view]${address};transport=${transport};version=3")`),
    h('h3', null, 'Kamailio'), line(`modparam("siptrace", "duplicate_uri", "sip:${address}")`),
    h('h3', null, 'A capture'), line('hep view capture.pcap'),
    h('p', { class: 'muted' }, 'OPTIONS, which phones send as keep-alives, are left out of this list until "Show OPTIONS" is on.'));
}
