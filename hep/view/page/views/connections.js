// The list of WebSocket connections.
import { get } from '../api.js';
import { clear, h, icon, put, setIcon, settle, throttled, tint } from '../dom.js';
import { FilterBar, timesOf } from '../filters.js';
import { connectionLink, fragment, go, replace } from '../router.js';
import { count, duration, listTime, visible } from '../text.js';
import { VirtualList } from '../virtual.js';
import { connectionIcon, connectionTone } from './parts.js';

const COLUMNS = ['Since', 'Address', 'AOR', 'State', 'End', 'Length', 'Msgs', 'Origin', 'User-Agent'];
const STATES = [
  { value: 'open', label: 'Open', icon: 'open', tone: 'good' }, { value: 'closed', label: 'Closed', icon: 'ok', tone: 'quiet' },
  { value: 'refused', label: 'Refused', icon: 'rejected', tone: 'bad', title: 'The handshake was answered with an error' },
  { value: 'failed', label: 'Failed', icon: 'failed', tone: 'bad', title: 'The handshake never came to an answer' },
];
const FIELDS = [
  { name: 'text', label: 'Text', hint: 'part of id, AOR, User-Agent, Origin, path, error' },
  { name: 'address', label: 'Address', hint: 'beginning of an address: 10.1.' },
];
const PAGE = 500;
const MOST_ROWS = 20_000;

/** What a row says of its end: the close code, or why it was refused. */
export function endOf(row) {
  const by = { peer: ' by the peer', local: ' by the server' }[row.closed_by] ?? '';
  if (row.state === 'closed') return [row.code ? `${row.code}${by}` : 'closed', row.reason || row.error].filter(Boolean).join(' · ');
  if (row.state === 'open') return '';
  return [row.status || '', row.error, row.error_detail].filter(Boolean).join(' · ');
}

export function connectionRows(app) {
  const create = () => {
    const cells = COLUMNS.map((name) => h('span', { class: `cell c-${name.toLowerCase()}`, role: 'gridcell' }));
    cells[3].append(h('span', { class: 'state' }, icon('open'), h('span')));
    return h('div', { class: 'row connection-row' }, cells);
  };
  const fill = (element, row) => {
    const cells = element.children;
    const now = app.now();
    tint(element, `row connection-row tone-${connectionTone(row)}`);
    put(cells[0], listTime(row.since, now));
    put(cells[1], `${row.leg === 'upstream' ? '→ ' : ''}${visible(row.peer, 60)}`);
    cells[1].title = row.leg === 'upstream' ? 'A connection that the server opened to an upstream' : '';
    put(cells[2], visible(row.aor, 80));
    setIcon(cells[3].firstChild.firstChild, connectionIcon(row));
    put(cells[3].firstChild.lastChild, visible(row.state, 16));
    put(cells[4], visible(endOf(row), 120));
    put(cells[5], duration((row.until || now) - row.since));
    put(cells[6], count(row.messages_in + row.messages_out));
    cells[6].title = `${count(row.messages_in)} from the peer, ${count(row.messages_out)} to it`;
    put(cells[7], visible(row.origin, 80));
    put(cells[8], visible(row.user_agent, 100));
    element.setAttribute('aria-label', `${cells[1].textContent} ${cells[2].textContent}, ${row.state} ${cells[4].textContent}, since ${cells[0].textContent}`);
  };
  return { create, fill };
}

export const connectionHead = () => h('div', { class: 'row head connection-row', 'aria-hidden': 'true' },
  COLUMNS.map((name) => h('span', { class: `cell c-${name.toLowerCase()}` }, name)));

export class ConnectionsView {
  title = 'Connections';

  constructor(app) {
    this.app = app;
    this.bar = new FilterBar({ fields: FIELDS, toggles: [{ name: 'state', label: 'State', options: STATES }], change: () => {
      replace(fragment('connections', '', this.bar.pairs()));
      this.asked = new URLSearchParams(this.bar.pairs()).toString();
      this.load();
    } });
    this.list = new VirtualList({
      label: 'Connections', columns: COLUMNS.length, ...connectionRows(app), key: (row) => row.id,
      open: (row) => go(connectionLink(row.id)), nearEnd: () => this.#more(),
    });
    this.empty = h('div', { class: 'empty', hidden: true });
    this.element = h('section', { class: 'view list-view', 'aria-label': 'Connections' }, this.bar.element, connectionHead(),
      h('div', { class: 'list-box' }, this.list.element, this.empty));
    this.reload = throttled(() => { if (this.list.atTop) this.load(true); }, 1000);
    app.live.addEventListener('connections', ({ detail }) => this.#live(detail));
    setInterval(() => { if (this.shown && !document.hidden) this.list.draw(true); }, 1000);
  }

  show(route) {
    this.shown = true;
    const asked = route.parameters.toString();
    if (this.asked !== asked || !this.rows) {
      this.asked = asked;
      this.bar.read(route.parameters);
      this.load();
    } else {
      this.list.draw(true);
      this.list.element.scrollTop = this.scroll ?? 0;
    }
    settle(this.list.element);
  }

  hide() {
    this.shown = false;
    this.scroll = this.list.element.scrollTop;
  }

  focusFilter() { this.bar.focus(); }

  again() { this.load(true); }

  key(event) {
    if (!this.list.key(event)) return false;
    this.list.element.focus({ preventScroll: true });
    return true;
  }

  /** @param {boolean} stay whether the place of the scroll stays. */
  async load(stay = false) {
    this.loading?.abort();
    const abort = new AbortController();
    this.loading = abort;
    const { address, text, state } = this.bar.filters;
    this.filter = { ...timesOf(this.bar.filters, this.app.now()), address, text, state };
    try {
      const answer = await get('connections', { ...this.filter, limit: PAGE }, abort.signal);
      this.rows = answer.connections;
      this.next = answer.next;
      this.loading = null;
      this.list.update(this.rows);
      if (!stay) this.list.element.scrollTop = 0;
      this.#counts(answer);
    } catch (failure) {
      if (failure.name === 'AbortError') return;
      this.loading = null;
      clear(this.empty, h('div', { class: 'empty-small' }, h('h2', null, 'The list did not come'), h('p', null, visible(failure.message))));
      this.empty.hidden = false;
    }
  }

  async #more() {
    if (!this.next || this.loading || this.rows.length >= MOST_ROWS) return;
    const abort = new AbortController();
    this.loading = abort;
    try {
      const answer = await get('connections', { ...this.filter, limit: PAGE, before: this.next }, abort.signal);
      const known = new Set(this.rows.map((row) => row.id));
      this.rows = this.rows.concat(answer.connections.filter((row) => !known.has(row.id)));
      this.next = answer.next;
      this.loading = null;
      this.list.update(this.rows);
      this.#counts(answer);
    } catch (failure) {
      if (failure.name !== 'AbortError') this.loading = null;
    }
  }

  #counts(answer) {
    this.bar.count.textContent = `${count(this.rows.length)}${this.next ? '+' : ''} connections${answer.searched_to ? `, searched back to ${listTime(answer.searched_to, this.app.now())}` : ''}`;
    this.empty.hidden = this.rows.length > 0;
    if (this.rows.length) return;
    const filtered = this.bar.pairs().length > 0;
    clear(this.empty, h('div', { class: 'empty-small' }, h('h2', null, filtered ? 'No connection matches' : 'No connection yet'),
      h('p', null, filtered ? 'Connections that come and match appear here.' : 'WebSocket connections appear when a server sends their events, as sipws and OpenSIPS do.'),
      filtered && h('button', { type: 'button', class: 'button primary', onclick: () => this.bar.reset() }, 'Clear filters')));
  }

  // Rows that are known change in place; the service decides which others belong here.
  #live({ connections, more }) {
    if (!this.rows) return;
    const known = new Map(this.rows.map((row) => [row.id, row]));
    let fresh = more > 0;
    for (const row of connections) {
      if (known.has(row.id)) Object.assign(known.get(row.id), row);
      else fresh = true;
    }
    if (this.shown) this.list.draw(true);
    if (fresh && this.list.atTop) this.reload();
  }
}
