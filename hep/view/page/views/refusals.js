// Refused handshakes, grouped by reason and by address.
import { get } from '../api.js';
import { clear, data, h, throttled } from '../dom.js';
import { timePicker, timesOf } from '../filters.js';
import { fragment, replace } from '../router.js';
import { ago, count, listTime, plural, visible } from '../text.js';
import { problem } from './parts.js';

const STATES = [['state', 'refused'], ['state', 'failed']];

/** A view of numbers over a time: time picker, load, refresh when connections change. */
export class OverTime {
  constructor(app, name) {
    this.app = app;
    this.name = name;
    this.filters = {};
    this.picker = timePicker(() => this.filters, (changes) => {
      Object.assign(this.filters, changes);
      this.picker.refresh();
      replace(fragment(this.name, '', this.pairs()));
      this.load();
    });
    this.count = h('span', { class: 'count', 'aria-live': 'polite' });
    this.body = h('div', { class: 'scroll' });
    this.element = h('section', { class: 'view over-time' }, h('div', { class: 'filters' }, h('div', { class: 'filter-row' }, this.picker.root, this.count)), this.body);
    this.reload = throttled(() => this.load(), 2000);
    this.onlive = () => this.reload();
    app.live.addEventListener('connections', this.onlive);
  }

  pairs() { return Object.entries(this.filters).filter(([, value]) => value); }

  show(route) {
    this.filters = {};
    for (const name of ['last', 'since', 'until']) if (route.parameters.get(name)) this.filters[name] = route.parameters.get(name);
    this.picker.refresh();
    return this.load();
  }

  async load() {
    try {
      const times = timesOf(this.filters, this.app.now());
      const answer = await get(this.name, { ...times, ...this.more?.() });
      if (this.closed) return;
      this.draw(answer);
    } catch (failure) {
      if (!this.closed) clear(this.body, problem(failure, () => this.load()));
    }
  }

  again() { this.load(); }

  focusFilter() { this.picker.button.focus(); }

  // j and k move over the rows' links.
  key(event) {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    const links = [...this.body.querySelectorAll('a.row-link')];
    if (!step || !links.length) return false;
    const at = links.indexOf(document.activeElement);
    links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + step))].focus();
    return true;
  }

  close() {
    this.closed = true;
    this.reload.cancel();
    this.app.live.removeEventListener('connections', this.onlive);
  }
}

export class RefusalsView extends OverTime {
  title = 'Refusals';

  constructor(app) {
    super(app, 'refusals');
    this.element.setAttribute('aria-label', 'Refusals');
  }

  draw(answer) {
    const focused = document.activeElement?.dataset?.key;
    this.count.textContent = `${plural(answer.total, 'refused handshake')}`;
    if (!answer.total) {
      clear(this.body, h('div', { class: 'empty' }, h('div', { class: 'empty-small' }, h('h2', null, 'No handshake was refused'), h('p', null, 'Handshakes that are answered with an error or fail appear here.'))));
      return;
    }
    clear(this.body, h('div', { class: 'columns' },
      this.#table('By reason', 'Reason', answer.by_reason, (group) => [['text', group.key]]),
      this.#table('By address', 'Address', answer.by_address, (group) => [['address', group.key]])));
    if (focused) this.body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #table(title, label, groups, pairs) {
    const most = Math.max(1, ...groups.map((group) => group.count));
    return h('section', { class: 'card' }, h('h2', null, title), h('table', { class: 'groups' },
      h('thead', null, h('tr', null, [label, 'Count', 'Last', 'Status', 'Detail'].map((name) => h('th', { scope: 'col', class: `g-${name.toLowerCase()}` }, name)))),
      h('tbody', null, groups.map((group) => {
        const bar = h('span', { class: 'share', 'aria-hidden': 'true' });
        bar.style.width = `${Math.max(2, (100 * group.count) / most)}%`;
        return h('tr', null,
          h('td', { class: 'g-key' }, h('a', { class: 'row-link', 'data-key': `${label}${visible(group.key, 80)}`, href: fragment('connections', '', [...STATES, ...pairs(group), ...this.pairs()]) }, data(group.key || '(none)', { longest: 80 }))),
          h('td', { class: 'g-count' }, bar, h('span', null, count(group.count))),
          h('td', { class: 'g-last', title: listTime(group.last, this.app.now()) }, ago(group.last, this.app.now())),
          h('td', { class: 'g-status' }, group.status || ''),
          h('td', { class: 'g-detail' }, data(group.detail, { longest: 300, title: true }), group.user_agent ? h('div', { class: 'muted' }, data(group.user_agent, { longest: 120 })) : null));
      }))));
  }
}
