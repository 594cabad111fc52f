// A connection: facts, the handshake as it was sent, its timeline, the calls on it.
import { get } from '../api.js';
import { clear, data, h, icon, pieces, settle, throttled } from '../dom.js';
import { callLink, connectionLink, fragment, replace } from '../router.js';
import { bytes, clock, count, duration, plural, visible, visibleLines } from '../text.js';
import { chip, connectionBadge, connectionChip, connectionTone, fact, facts, problem } from './parts.js';
import { PicturePart } from './picture.js';
import { outcomeTone, stateOf } from './calls.js';

const LONGEST = 20_000; // characters of a handshake that are shown at once

export class ConnectionView {
  constructor(app) {
    this.app = app;
    this.title = 'Connection';
    this.head = h('div', { class: 'call-head' });
    this.picture = new PicturePart((record) => {
      this.record = record;
      replace(fragment('connection', this.id, record ? [['m', record]] : []));
    });
    this.element = h('section', { class: 'view call-view', 'aria-label': 'Connection' }, this.head, this.picture.element);
    this.reload = throttled(() => this.load(), () => 400 + 2 * (this.shown?.steps.length ?? 0));
    this.onlive = ({ detail }) => { if (detail.connections.some((row) => row.id === this.id)) this.reload(); };
    app.live.addEventListener('connections', this.onlive);
  }

  async show(route) {
    this.record = Number(route.parameters.get('m')) || null;
    if (this.id !== route.id) {
      this.id = route.id;
      this.shown = null;
      this.picture.ladder.cursor = 0;
    }
    await this.load();
    settle(this.picture.ladder.element);
  }

  async load() {
    const { id } = this;
    try {
      const view = await get('connection', { id });
      if (id !== this.id) return;
      if (!this.shown) this.app.setTitle(`${view.connection.state}: ${view.connection.peer}`);
      this.shown = view;
      this.#head(view);
      if (!this.picture.element.isConnected) this.element.replaceChildren(this.head, this.picture.element);
      this.picture.show(view, this.record);
    } catch (failure) {
      if (id !== this.id || this.shown) return;
      this.element.replaceChildren(problem(failure, () => this.load()));
    }
  }

  again() { this.load(); }

  #head({ connection: row, sentence, other, request, reply, calls, cut }) {
    const open = this.handshake?.open;
    this.handshake = request || reply ? h('details', { class: 'handshake', open }, h('summary', null, 'Handshake as sent'),
      h('div', { class: 'handshake-texts' }, this.#text('Request', request), this.#text('Reply', reply))) : null;
    clear(this.head,
      h('div', { class: 'call-line' },
        h('a', { class: 'icon-button', href: '#/connections', 'aria-label': 'Back to the connections', title: 'Back (Esc)' }, icon('back')),
        connectionChip(row), h('h1', { class: 'call-title' }, data(row.peer || row.id, { class: 'mono' }), row.aor ? [' ', h('strong', null, data(row.aor, { longest: 100 }))] : null),
        h('span', { class: 'call-facts muted' }, [visible(row.protocol, 10), clock(row.since, { date: true }), duration((row.until || this.app.now()) - row.since)].filter(Boolean).join(' · '))),
      sentence && h('p', { class: `verdict small-verdict tone-${connectionTone(row)}` }, pieces(visible(sentence, 1000))),
      facts(
        fact('Id', row.id, { mono: true, copies: true }), fact('Server', row.local, { mono: true }),
        fact('Opened by', row.leg === 'upstream' ? 'the server, to an upstream' : 'the client'),
        fact('Client', row.client, { mono: true }), fact('Origin', row.origin), fact('Host', row.host), fact('Path', row.resource, { mono: true }),
        fact('User-Agent', row.user_agent), fact('HTTP status', row.status),
        fact('Messages', `${count(row.messages_in)} in, ${count(row.messages_out)} out`),
        fact('Bytes', row.bytes_in || row.bytes_out ? `${bytes(row.bytes_in)} in, ${bytes(row.bytes_out)} out` : ''),
        fact('Error', [row.error, row.error_detail].filter(Boolean).join(': '))),
      h('div', { class: 'call-links' },
        other ? h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Other leg'), connectionBadge(other))
          : row.relayed_with ? h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Other leg'), h('a', { class: 'badge', href: connectionLink(row.relayed_with) }, data(row.relayed_with, { class: 'mono', longest: 40 }))) : null,
        calls.length ? h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Calls'), calls.map((call) => h('a', { class: 'badge', href: callLink(call.call_id), title: visible(call.call_id, 200) },
          chip(outcomeTone(call.outcome), call.outcome, stateOf(call)), h('span', null, visible(call.method, 20), ' '), data(call.from_user, { longest: 30 }), ' → ', data(call.to_user, { longest: 30 })))) : null,
        cut ? h('span', { class: 'muted' }, `${plural(cut, 'later message')} not shown`) : null),
      this.handshake);
  }

  #text(label, text) {
    return h('figure', null, h('figcaption', { class: 'muted' }, label),
      h('pre', { class: 'code', tabindex: 0 }, text ? pieces(visibleLines(text.slice(0, LONGEST))) : 'not captured'));
  }

  escape() { return this.picture.escape(); }

  key(event) { return this.shown ? this.picture.key(event) : false; }

  close() {
    this.reload.cancel();
    this.id = null;
    this.app.live.removeEventListener('connections', this.onlive);
    this.picture.close();
  }
}
