// What a search found: calls and connections, with why each matched.
import { get } from '../api.js';
import { clear, data, h } from '../dom.js';
import { callLink, connectionLink } from '../router.js';
import { plural, visible } from '../text.js';
import { callRows } from './calls.js';
import { connectionRows } from './connections.js';
import { problem } from './parts.js';

const EXACT = new Set(['Call-ID', 'connection', 'branch']);

export class SearchView {
  title = 'Search';

  constructor(app) {
    this.app = app;
    this.body = h('div', { class: 'scroll' });
    this.element = h('section', { class: 'view search-view', 'aria-label': 'Search' }, this.body);
  }

  async show({ id: text }) {
    this.text = text;
    this.app.setTitle(text ? `Search ${text}` : 'Search');
    if (!text) {
      clear(this.body, this.#hint('Search', 'Type a user, number, address, Call-ID, connection id or branch above.'));
      this.app.search.focus();
      return;
    }
    this.element.setAttribute('aria-busy', 'true');
    try {
      const found = await get('search', { q: text, limit: 100 });
      if (this.text !== text || this.closed) return;
      const only = found.calls.length + found.connections.length === 1 && found.matches[0];
      if (only && (only.id === text || EXACT.has(only.why))) {
        // Back leads to where the search was typed, not to the search.
        window.location.replace(only.what === 'call' ? callLink(only.id) : connectionLink(only.id));
        return;
      }
      this.#draw(found, text);
    } catch (failure) {
      if (!this.closed) clear(this.body, problem(failure, () => this.show({ id: text })));
    } finally {
      this.element.removeAttribute('aria-busy');
    }
  }

  #hint(title, text) {
    return h('div', { class: 'empty' }, h('div', { class: 'empty-small' }, h('h2', null, title), h('p', null, text)));
  }

  #draw(found, text) {
    const { calls, connections, matches, complete } = found;
    if (!calls.length && !connections.length) {
      clear(this.body, this.#hint('Nothing found', `No call or connection has “${visible(text, 100)}” as user, number, address, Call-ID, connection id or branch.${complete ? '' : ' Not all packets were searched.'}`));
      return;
    }
    const why = new Map(matches.map((match) => [`${match.what} ${match.id}`, match.why]));
    clear(this.body, h('p', { class: 'found' }, `${plural(calls.length, 'call')} and ${plural(connections.length, 'connection')} for `, data(text, { class: 'chip', longest: 100 }),
      complete ? null : h('span', { class: 'muted' }, ' There may be more: type more of it.')),
    calls.length ? this.#list('Calls', calls, callRows(this.app), (row) => [callLink(row.call_id), why.get(`call ${row.call_id}`)]) : null,
    connections.length ? this.#list('Connections', connections, connectionRows(this.app), (row) => [connectionLink(row.id), why.get(`connection ${row.id}`)]) : null);
    this.#links()[0]?.focus({ preventScroll: true });
  }

  #list(title, rows, { create, fill }, about) {
    return h('section', { class: 'found-list' }, h('h2', null, title), rows.map((item) => {
      const [address, reason] = about(item);
      const row = create();
      fill(row, item);
      for (const cell of row.children) cell.removeAttribute('role');
      const link = h('a', { class: `found-row ${row.className}`, href: address, 'aria-label': `${row.getAttribute('aria-label')}, found by ${visible(reason, 40)}` },
        h('span', { class: 'why' }, visible(reason ?? '', 20)), [...row.children]);
      return link;
    }));
  }

  #links() { return [...this.body.querySelectorAll('.found-row')]; }

  key(event) {
    const links = this.#links();
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!step || !links.length) return false;
    const at = links.indexOf(document.activeElement) + step;
    links[Math.max(0, Math.min(links.length - 1, at))].focus();
    return true;
  }

  close() { this.closed = true; }
}
