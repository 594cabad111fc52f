// The live list of calls.
import { get } from '../api.js';
import { clear, h, icon, put, setIcon, settle, throttled, tint, toast } from '../dom.js';
import { FilterBar, timesOf } from '../filters.js';
import { callLink, fragment, go, replace } from '../router.js';
import { count, duration, listTime, visible } from '../text.js';
import { VirtualList } from '../virtual.js';
import { emptyState } from './empty.js';

const FIRST_ROWS = 200; // fills any screen, and comes at once
const MORE_ROWS = 1000;
const MOST_ROWS = 20_000; // an open page must not grow for days; older rows are behind a filter

const OUTCOMES = [
  { value: 'open', label: 'Open', icon: 'open', tone: 'info', title: 'It goes on' },
  { value: 'ok', label: 'OK', icon: 'ok', tone: 'good', title: 'Answered, registered, ended as usual' },
  { value: 'cancelled', label: 'Cancelled', icon: 'cancelled', tone: 'quiet', title: 'The caller hung up before an answer' },
  { value: 'rejected', label: 'Rejected', icon: 'rejected', tone: 'warn', title: 'Declined: 486, 603, 404 …' },
  { value: 'failed', label: 'Failed', icon: 'failed', tone: 'bad', title: '408, 5xx or no answer at all' },
  { value: 'lost', label: 'Lost', icon: 'lost', tone: 'bad', title: 'A connection that it needed ended' },
];
const KINDS = [
  { value: 'call', label: 'Calls' }, { value: 'registration', label: 'Registrations' },
  { value: 'subscription', label: 'Subscriptions' }, { value: 'message', label: 'Messages' },
  { value: 'other', label: 'Other' },
];
const OPTIONS_TOGGLE = [{ value: '1', label: 'Show OPTIONS', title: 'OPTIONS, which phones send as keep-alives, are left out unless this is on' }];
const FIELDS = [
  { name: 'user', label: 'User', hint: 'part of a user or user@host' },
  { name: 'address', label: 'Address', hint: 'beginning of an address: 10.1. or 10.1.2.3:5060' },
  { name: 'method', label: 'Method', hint: 'INVITE, REGISTER, MESSAGE …' },
  { name: 'code', label: 'Code', hint: '486 or 4xx' },
  { name: 'text', label: 'Text', hint: 'part of any message' },
];
const COLUMNS = ['Time', 'Method', 'From', 'To', 'State', 'Code', 'Duration', 'Msgs', 'User-Agent', 'Ended'];

const TONES = Object.fromEntries(OUTCOMES.map(({ value, tone }) => [value, tone]));
export const outcomeTone = (outcome) => TONES[outcome] ?? 'quiet';

/** What the chip of a call says: how it went, or where it is. */
export function stateOf(row) {
  return row.outcome === 'open' ? row.state : row.outcome;
}

/** How long it was answered; else from the first to the last message. */
export function lengthOf(row, now) {
  if (row.kind === 'call' && row.outcome === 'open') return Math.max(0, now - (row.answered_at || row.first));
  if (row.answered_at) return (row.ended_at || row.last) - row.answered_at;
  return row.last - row.first;
}

/** Builds and fills rows of calls; the search uses them too. */
export function callRows(app) {
  const create = () => {
    const cells = COLUMNS.map((name) => h('span', { class: `cell c-${name.toLowerCase()}`, role: 'gridcell' }));
    for (const index of [2, 3]) cells[index].append(h('bdi', { class: 'user' }), h('bdi', { class: 'host' }));
    cells[4].append(h('span', { class: 'state' }, icon('open'), h('span')));
    return h('div', { class: 'row call-row' }, cells);
  };
  const fill = (element, row) => {
    const cells = element.children;
    const now = app.now();
    const state = stateOf(row);
    tint(element, `row call-row tone-${outcomeTone(row.outcome)}`);
    put(cells[0], listTime(row.first, now));
    put(cells[1], visible(row.method, 32));
    party(cells[2], row.from_user, row.from_host);
    party(cells[3], row.to_user, row.to_host);
    setIcon(cells[4].firstChild.firstChild, row.outcome);
    put(cells[4].firstChild.lastChild, visible(state, 16));
    put(cells[5], row.code ? `${row.code} ${visible(row.reason, 40)}` : '');
    put(cells[6], duration(lengthOf(row, now)));
    put(cells[7], count(row.messages));
    cells[7].title = row.retransmissions ? `${row.retransmissions} of them sent again` : '';
    cells[7].classList.toggle('again', row.retransmissions > 0);
    put(cells[8], visible(row.user_agent, 80));
    put(cells[9], visible(row.ended, 80));
    element.setAttribute('aria-label', `${cells[1].textContent} from ${cells[2].textContent} to ${cells[3].textContent}, `
      + `${state}, ${cells[5].textContent} ${cells[9].textContent}, ${cells[0].textContent}`);
  };
  return { create, fill };
}

function party(cell, user, host) {
  put(cell.firstChild, visible(user || host, 64));
  put(cell.lastChild, user && host ? `@${visible(host, 64)}` : '');
}

export const callHead = () => h('div', { class: 'row head call-row', 'aria-hidden': 'true' },
  COLUMNS.map((name) => h('span', { class: `cell c-${name.toLowerCase()}` }, name)));

export class CallsView {
  title = 'Calls';

  constructor(app) {
    this.app = app;
    this.rows = new Map(); // Call-ID to row; the list is sorted by the first message, latest first
    this.next = null;
    this.paused = false;
    this.missed = new Set();
    this.unseen = new Set();
    this.bar = new FilterBar({
      fields: FIELDS,
      toggles: [
        { name: 'outcome', label: 'How it went', options: OUTCOMES },
        { name: 'kind', label: 'What it is', options: KINDS },
        { name: 'options', label: 'OPTIONS', options: OPTIONS_TOGGLE },
      ],
      change: () => this.#changed(),
    });
    this.pauseButton = h('button', { type: 'button', class: 'button', 'aria-pressed': 'false', onclick: () => this.pause() },
      icon('pause'), h('span', null, 'Pause'));
    this.bar.extra.append(this.pauseButton);
    this.list = new VirtualList({
      label: 'Calls',
      columns: COLUMNS.length,
      ...callRows(app),
      key: (row) => row.call_id,
      open: (row) => go(callLink(row.call_id)),
      nearEnd: () => this.#more(),
      scrolled: () => { if (this.list.atTop) this.#seen(); },
    });
    this.pill = h('button', { type: 'button', class: 'pill', hidden: true, onclick: () => { this.list.toTop(); this.#seen(); } });
    this.empty = h('div', { class: 'empty', hidden: true });
    this.note = h('div', { class: 'list-note', hidden: true });
    this.element = h('section', { class: 'view list-view', 'aria-label': 'Calls' },
      this.bar.element, callHead(),
      h('div', { class: 'list-box' }, this.list.element, this.pill, this.empty), this.note);
    this.reload = throttled(() => this.again(), 1500);
    app.live.addEventListener('calls', ({ detail }) => this.#live(detail));
    setInterval(() => this.#tick(), 1000);
  }

  show(route) {
    this.shown = true;
    const asked = route.parameters.toString();
    if (this.asked === asked && this.loaded) {
      this.list.draw(true);
      if (this.scroll) this.list.element.scrollTop = this.scroll;
    } else {
      this.asked = asked;
      this.bar.read(route.parameters);
      this.load();
    }
    settle(this.list.element);
  }

  hide() {
    this.scroll = this.list.element.scrollTop;
    this.shown = false;
  }

  focusFilter() { this.bar.focus(); }

  /** Asks again for what may have been missed; a list that is being read waits until its top is seen. */
  again() {
    this.stale = this.loaded && (this.paused || !this.list.atTop);
    if (!this.stale) this.load();
  }

  key(event) {
    if (event.key === 'p') this.pause();
    else if (this.list.key(event)) this.list.element.focus({ preventScroll: true });
    else return false;
    return true;
  }

  address() { return fragment('calls', '', this.bar.pairs()); }

  #changed() {
    replace(this.address());
    this.asked = new URLSearchParams(this.bar.pairs()).toString();
    this.load();
  }

  // The filter as the service takes it.
  #asked() {
    const { user, address, method, code, text, outcome, kind = [], options } = this.bar.filters;
    const kinds = kind.length || options
      ? [...kind, ...(options && kind.length ? ['options'] : [])]
      : KINDS.map(({ value }) => value);
    return {
      ...timesOf(this.bar.filters, this.app.now()), user, address, method: method?.toUpperCase(),
      code: code?.toLowerCase(), text, outcome, kind: kinds,
    };
  }

  async load() {
    this.reload.cancel();
    this.loading?.abort();
    const abort = new AbortController();
    this.loading = abort;
    const filter = this.#asked();
    this.filter = filter;
    this.element.setAttribute('aria-busy', 'true');
    try {
      const answer = await get('calls', { ...filter, limit: FIRST_ROWS }, abort.signal);
      this.rows = new Map(answer.calls.map((row) => [row.call_id, row]));
      this.sorted = answer.calls;
      this.next = answer.next;
      this.missed.clear();
      this.unseen.clear();
      this.loaded = true;
      this.stale = false;
      this.loading = null;
      this.list.update(this.sorted);
      this.list.element.scrollTop = 0;
      this.#report(answer);
    } catch (failure) {
      if (failure.name === 'AbortError') return;
      this.loading = null;
      this.#problem(failure);
    } finally {
      if (this.loading === null) this.element.removeAttribute('aria-busy');
    }
  }

  async #more() {
    if (!this.next || this.loading || !this.loaded) return;
    if (this.sorted.length >= MOST_ROWS) {
      this.#say(`${count(MOST_ROWS)} rows are shown. Narrow the time to see older ones.`);
      return;
    }
    const abort = new AbortController();
    this.loading = abort;
    try {
      const answer = await get('calls', { ...this.filter, limit: MORE_ROWS, before: this.next }, abort.signal);
      const fresh = answer.calls.filter((row) => !this.rows.has(row.call_id));
      for (const row of fresh) this.rows.set(row.call_id, row);
      this.sorted = this.sorted.concat(fresh);
      this.next = answer.next;
      this.loading = null;
      this.list.update(this.sorted);
      this.#report(answer);
    } catch (failure) {
      if (failure.name === 'AbortError') return;
      this.loading = null;
      this.next = null;
      toast(failure.message, 'bad');
    }
  }

  #report(answer) {
    if (answer.searched_to) this.#say(`Searched back to ${listTime(answer.searched_to, this.app.now())}. Narrow the time to search further.`);
    else this.note.hidden = true;
    this.#counts();
  }

  #say(text) {
    this.note.textContent = text;
    this.note.hidden = false;
  }

  #counts() {
    const number = this.sorted?.length ?? 0;
    this.bar.count.textContent = `${count(number)}${this.next ? '+' : ''} of ${count(Math.max(this.app.status?.calls ?? 0, number))}`;
    this.pill.hidden = !this.unseen.size && !(this.paused && this.missed.size);
    this.pill.textContent = this.paused ? `${count(this.missed.size)} changed while paused` : `${count(this.unseen.size)} new`;
    const empty = this.loaded && !number;
    if (empty) {
      const filtered = this.bar.pairs().length > 0;
      clear(this.empty, filtered ? this.#nothing() : emptyState(this.app));
    }
    this.empty.hidden = !empty;
  }

  #nothing() {
    return h('div', { class: 'empty-small' }, h('h2', null, 'No call matches'),
      h('p', null, 'Calls that come and match appear here.'),
      h('button', { type: 'button', class: 'button primary', onclick: () => this.bar.reset() }, 'Clear filters'));
  }

  #problem(failure) {
    clear(this.empty, h('div', { class: 'empty-small' }, h('h2', null, 'The list did not come'),
      h('p', null, visible(failure.message)), h('button', { type: 'button', class: 'button', onclick: () => this.load() }, 'Try again')));
    this.empty.hidden = false;
  }

  pause() {
    this.paused = !this.paused;
    this.pauseButton.setAttribute('aria-pressed', this.paused);
    this.pauseButton.lastChild.textContent = this.paused ? 'Resume' : 'Pause';
    setIcon(this.pauseButton.firstChild, this.paused ? 'play' : 'pause');
    if (!this.paused && (this.missed.size || this.stale)) this.load();
    else this.#counts();
  }

  // Whether a row belongs in the list. `text` reads messages, which the page does not have.
  #isWanted(row) {
    const { since, until, user, address, method, code, outcome, kind } = this.filter;
    const part = user?.toLowerCase();
    return (!since || row.last >= since) && (!until || row.first <= until)
      && (!part || `${row.from_user}@${row.from_host}`.toLowerCase().includes(part)
        || `${row.to_user}@${row.to_host}`.toLowerCase().includes(part))
      && (!address || row.addresses.some((each) => each.startsWith(address)))
      && (!method || row.method === method)
      && (!code || String(row.code) === code || `${Math.floor(row.code / 100)}xx` === code)
      && (!outcome?.length || outcome.includes(row.outcome))
      && (!kind.length || kind.includes(row.kind));
  }

  #live({ calls, more }) {
    if (!this.loaded) return;
    if (this.paused) {
      for (const row of calls) if (this.#isWanted(row)) this.missed.add(row.call_id);
      this.#counts();
      return;
    }
    // What did not fit in a batch, and matches that only the service can judge, are asked for. A
    // list that is being read stays as it is.
    if (more || this.filter.text) {
      if (this.list.atTop) this.reload();
      else this.stale = true;
      if (this.filter.text) return;
    }
    const before = this.list.isScrolled;
    let added = 0;
    const fresh = [];
    const gone = new Set();
    for (const row of calls) {
      const known = this.rows.get(row.call_id);
      const wanted = this.#isWanted(row);
      if (known && wanted) Object.assign(known, row);
      else if (known) gone.add(row.call_id);
      else if (wanted && !this.#isBeyond(row)) fresh.push(row);
    }
    for (const id of gone) this.rows.delete(id);
    if (gone.size) this.sorted = this.sorted.filter((row) => this.rows.has(row.call_id));
    const top = this.list.topItem?.first ?? 0;
    for (const row of fresh) {
      this.rows.set(row.call_id, row);
      this.#insert(row);
      if (before && row.first >= top) added += 1;
      if (before || !this.shown) this.unseen.add(row.call_id);
    }
    if (this.sorted.length > MOST_ROWS && !before) this.reload();
    if (!before) this.unseen.clear();
    this.list.update(this.sorted, { added });
    this.#counts();
  }

  // A row that is older than the last one loaded comes with its page.
  #isBeyond(row) { return this.next && row.first < (this.sorted.at(-1)?.first ?? 0); }

  #insert(row) {
    let low = 0;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle].first > row.first) low = middle + 1;
      else high = middle;
    }
    this.sorted.splice(low, 0, row);
  }

  #seen() {
    if (this.stale && !this.paused) this.load();
    if (!this.unseen.size) return;
    this.unseen.clear();
    this.#counts();
  }

  // Durations of calls that go on, and rows that leave the last minutes or hours.
  #tick() {
    if (this.loaded && this.bar.filters.last && !this.paused) {
      this.filter.since = timesOf(this.bar.filters, this.app.now()).since;
      const old = this.sorted.filter((row) => row.last < this.filter.since);
      for (const row of old) this.rows.delete(row.call_id);
      if (old.length) {
        this.sorted = this.sorted.filter((row) => this.rows.has(row.call_id));
        this.list.update(this.sorted);
        this.#counts();
      }
    }
    if (this.shown && !document.hidden && this.sorted?.some((row, index) => index < 500 && row.outcome === 'open')) this.list.draw(true);
  }

  statusChanged() { if (this.loaded) this.#counts(); }
}

