// A call: its verdict, and the ladder with the message beside it.
import { exportAddress, get } from '../api.js';
import { clear, copy, data, h, icon, iconButton, pieces, settle, throttled } from '../dom.js';
import { menu } from '../menu.js';
import { callLink, fragment, replace } from '../router.js';
import { clock, duration, plural, visible } from '../text.js';
import { lengthOf, outcomeTone, stateOf } from './calls.js';
import { leftOut } from './ladder.js';
import { chip, connectionBadge, problem } from './parts.js';
import { PicturePart } from './picture.js';

const FORMATS = [['pcap', 'pcap', 'for Wireshark and sngrep'], ['text', 'Text', 'ladder and messages'], ['json', 'JSON', 'all that is known'],
  ['mermaid', 'Mermaid', 'sequence diagram for GitHub, GitLab'], ['html', 'HTML', 'one file for a ticket']];

export class CallView {
  constructor(app) {
    this.app = app;
    this.title = 'Call';
    this.head = h('div', { class: 'call-head' });
    this.picture = new PicturePart((record) => this.#opened(record));
    this.element = h('section', { class: 'view call-view', 'aria-label': 'Call' }, this.head, this.picture.element);
    // A picture of 2,000 messages takes 0.4 s to draw.
    this.reload = throttled(() => this.load(), () => 300 + 2 * (this.shown?.steps.length ?? 0));
    this.onlive = ({ detail }) => { if (detail.calls.some((row) => row.call_id === this.id)) this.reload(); };
    app.live.addEventListener('calls', this.onlive);
  }

  async show(route) {
    this.record = Number(route.parameters.get('m')) || null;
    this.keepalives = route.parameters.get('keepalives') === '1';
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
      const view = await get('call', { id, keepalives: this.keepalives ? 1 : '' });
      if (id !== this.id) return;
      const first = !this.shown;
      this.shown = view;
      this.#head(view);
      if (!this.picture.element.isConnected) this.element.replaceChildren(this.head, this.picture.element);
      this.picture.show(view, this.record);
      if (first) this.app.setTitle(`${stateOf(view.call)}: ${view.call.from_user} to ${view.call.to_user}`);
    } catch (failure) {
      if (id !== this.id || this.shown) return;
      this.element.replaceChildren(problem(failure, () => this.load().then(() => {})));
    }
  }

  again() { this.load(); }

  #address() {
    const pairs = [];
    if (this.record) pairs.push(['m', this.record]);
    if (this.keepalives) pairs.push(['keepalives', 1]);
    return fragment('call', this.id, pairs);
  }

  #opened(record) {
    this.record = record;
    replace(this.#address());
  }

  #head(view) {
    const { call, verdict } = view;
    const tone = outcomeTone(verdict.outcome);
    const length = duration(lengthOf(call, this.app.now()));
    // An export menu that is open stays open over a refresh.
    this.export ??= this.#export();
    clear(this.head,
      h('div', { class: 'call-line' },
        h('a', { class: 'icon-button', href: '#/calls', 'aria-label': 'Back to the calls', title: 'Back (Esc)', onclick: (event) => {
          if (!window.history.state?.inside) return;
          event.preventDefault();
          window.history.back();
        } }, icon('back')),
        chip(tone, verdict.outcome, stateOf({ ...call, outcome: verdict.outcome })),
        h('h1', { class: 'call-title' }, h('span', { class: 'method' }, visible(call.method, 32)), ' ', this.#party(call.from_user, call.from_host), h('span', { class: 'arrow-sign', 'aria-label': 'to' }, ' → '), this.#party(call.to_user, call.to_host)),
        h('span', { class: 'call-facts muted' }, [clock(call.first, { date: true }), length, plural(call.messages, 'message')].filter(Boolean).join(' · ')),
        h('div', { class: 'call-tools' }, this.#toggles(view), this.export.root,
          iconButton('link', 'Copy a link to this view (l)', () => this.copyLink()))),
      h('p', { class: `verdict tone-${tone}` }, pieces(visible(verdict.text, 2000))),
      verdict.notes.length ? h('ul', { class: 'notes' }, verdict.notes.map((note) => h('li', null, data(note, { longest: 1000 })))) : null,
      h('div', { class: 'call-links' },
        h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Call-ID'), data(call.call_id, { class: 'mono call-id', longest: 200, title: true }),
          iconButton('copy', 'Copy the Call-ID', () => copy(call.call_id, 'Call-ID copied'))),
        view.connections.length ? h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Connections'), view.connections.map(connectionBadge)) : null,
        view.related.length ? h('span', { class: 'link-group' }, h('span', { class: 'muted' }, 'Related'), view.related.map(({ call_id: other, why }) =>
          h('a', { class: 'badge', href: callLink(other), title: visible(other, 200) }, h('span', { class: 'muted' }, visible(why, 40)), data(other, { class: 'mono', longest: 28 })))) : null,
        leftOut(view) ? h('span', { class: 'muted' }, leftOut(view)) : null));
  }

  #party(user, host) {
    return h('span', { class: 'data' }, h('strong', null, pieces(visible(user || host, 80))), user && host ? h('span', { class: 'muted' }, pieces(`@${visible(host, 80)}`)) : null);
  }

  #toggles(view) {
    const absolute = h('button', { type: 'button', class: 'button', 'aria-pressed': this.picture.ladder.absolute, title: 'Clock or elapsed time (a)', onclick: () => this.#absolute() }, 'Clock');
    const keepalives = view.left_out || this.keepalives
      ? h('button', { type: 'button', class: 'button', 'aria-pressed': this.keepalives, title: 'Show keep-alives (x)', onclick: () => this.#keepalives() }, 'Keep-alives') : null;
    return [absolute, keepalives];
  }

  #absolute() {
    this.picture.ladder.setAbsolute(!this.picture.ladder.absolute);
    this.#head(this.shown);
  }

  #keepalives() {
    this.keepalives = !this.keepalives;
    replace(this.#address());
    this.load();
  }

  #export() {
    const anonymous = h('input', { type: 'checkbox', onchange: () => address() });
    const links = FORMATS.map(([format, label, what]) => h('a', { class: 'item', 'data-format': format, download: '' },
      h('strong', null, label), h('span', { class: 'muted' }, what)));
    const address = () => {
      for (const link of links) link.setAttribute('href', exportAddress(this.id, link.dataset.format, anonymous.checked));
    };
    return menu('Export', [h('label', { class: 'item check' }, anonymous, 'Replace users and addresses'), ...links,
      h('p', { class: 'muted small' }, 'Credentials are always masked.')], { icon: 'export', align: 'right', title: 'Export (e)', opening: address });
  }

  copyLink() { copy(window.location.href, 'Link copied'); }

  escape() { return this.picture.escape(); }

  key(event) {
    if (!this.shown) return false;
    if (event.key === 'a') this.#absolute();
    else if (event.key === 'x') this.#keepalives();
    else if (event.key === 'e') this.export.toggle();
    else if (event.key === 'l') this.copyLink();
    else return this.picture.key(event);
    return true;
  }

  close() {
    this.reload.cancel();
    this.id = null;
    this.app.live.removeEventListener('calls', this.onlive);
    this.picture.close();
  }
}
