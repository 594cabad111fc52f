// The pane beside the ladder: a message coloured, its difference to an earlier one, its bytes.
import { get } from '../api.js';
import { clear, copy, data, h, iconButton, pieces } from '../dom.js';
import { differences } from '../diff.js';
import { bytes, clock, count, visible, visibleLines } from '../text.js';
import { connectionLink } from '../router.js';

const FOLD = 2000; // characters of a header or line that are shown at once
const DUMP = 4096; // bytes of a dump that are shown at once
const MOST_KEPT = 200; // messages in memory; a step back and forth asks the service once

const kept = new Map();

function message({ record, at }) {
  // A store in memory counts from 1 again after a restart.
  const key = `${record} ${at}`;
  if (!kept.has(key)) {
    kept.set(key, get('message', { id: record }).catch((failure) => {
      kept.delete(key);
      throw failure;
    }));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(key);
}

/** Text that is cut with a button that shows the rest. */
function folded(text, longest, show) {
  if (text.length <= longest) return show(text);
  const box = h('span', null, show(text.slice(0, longest)), h('button', {
    type: 'button', class: 'more', onclick: () => clear(box, show(text)),
  }, `… show all ${count(text.length)} characters`));
  return box;
}

const HEADER_PARTS = /(<[^<>]{0,1000}>)|([;?&]\s*)([\w.-]{1,40})(=)("[^"]{0,1000}"|[^;,\s>&]{0,1000})?|("[^"]{0,1000}")/g;

/** A header's value with its URIs and parameters coloured. Long ones stay plain. */
function headerValue(value) {
  if (value.length > FOLD) return pieces(value);
  const nodes = [];
  let end = 0;
  for (const match of value.matchAll(HEADER_PARTS)) {
    nodes.push(...pieces(value.slice(end, match.index)));
    const [whole, uri, lead, name, sign, parameter, quoted] = match;
    if (uri) nodes.push(h('span', { class: 'k-uri' }, pieces(uri)));
    else if (quoted) nodes.push(h('span', { class: 'k-string' }, pieces(quoted)));
    else nodes.push(lead, h('span', { class: 'k-parameter' }, pieces(name)), sign, h('span', { class: 'k-string' }, pieces(parameter ?? '')));
    end = match.index + whole.length;
  }
  nodes.push(...pieces(value.slice(end)));
  return nodes;
}

function headers(found) {
  return h('div', { class: 'code headers' }, found.headers.map(({ name, value }) => h('div', { class: 'code-line' },
    h('span', { class: 'k-name' }, pieces(visible(name, 200))), ': ',
    h('bdi', { class: 'value' }, folded(visibleLines(value), FOLD, headerValue)))));
}

function sdpLine(line) {
  const [, letter, rest] = /^([a-z])=(.*)$/s.exec(line) ?? [];
  const text = (all) => folded(all, FOLD, pieces);
  if (!letter) return h('div', { class: 'code-line' }, text(line));
  const [, attribute, value] = (letter === 'a' && /^([\w-]{1,60})(:.*)?$/s.exec(rest)) || [];
  return h('div', { class: 'code-line' }, h('span', { class: 'k-name' }, letter), '=',
    attribute ? [h('span', { class: 'k-parameter' }, attribute), h('bdi', null, text(value ?? ''))] : h('bdi', null, text(rest)));
}

/** SDP by its media: what each is fits on one line, its lines are folded. */
function sdp(body) {
  const parts = [[]];
  for (const line of visibleLines(body).split('\n')) {
    if (line.startsWith('m=')) parts.push([]);
    if (line) parts.at(-1).push(line);
  }
  return h('div', { class: 'sdp' }, parts.filter((lines) => lines.length).map((lines, index) => {
    const codecs = lines.map((line) => /^a=rtpmap:\d+ ([^/]{1,30})/.exec(line)?.[1]).filter(Boolean);
    const way = lines.find((line) => /^a=(sendrecv|sendonly|recvonly|inactive)$/.test(line))?.slice(2);
    const address = lines.find((line) => line.startsWith('c='))?.slice(2, 60);
    const candidates = lines.filter((line) => line.startsWith('a=candidate')).length;
    const summary = index === 0 && !lines[0].startsWith('m=')
      ? ['session', `${lines.length} lines`]
      : [lines[0].slice(0, 60), [way, [...new Set(codecs)].slice(0, 4).join(' '), address, candidates && `${candidates} candidates`].filter(Boolean).join(' · ')];
    return h('details', { open: index > 0 || parts.length === 1 }, h('summary', null,
      h('span', { class: 'mono' }, pieces(summary[0])), h('span', { class: 'muted' }, pieces(summary[1]))),
    h('div', { class: 'code' }, lines.map(sdpLine)));
  }));
}

/** A JSON event; texts of several lines, such as an upgrade request, keep their lines. */
function json(body) {
  let value;
  try { value = JSON.parse(body); } catch { return plain(body); }
  return h('div', { class: 'code' }, jsonLines(value, 0));
}

function jsonLines(value, depth) {
  const lead = '  '.repeat(depth);
  if (value === null || typeof value !== 'object' || depth > 12) return [h('div', { class: 'code-line' }, lead, scalar(value, lead))];
  return Object.entries(value).flatMap(([name, each]) => {
    const label = h('span', { class: 'k-name' }, pieces(visible(name, 200)));
    if (each !== null && typeof each === 'object') return [h('div', { class: 'code-line' }, lead, label, ':'), ...jsonLines(each, depth + 1)];
    return [h('div', { class: 'code-line' }, lead, label, ': ', scalar(each, `${lead}  `))];
  });
}

function scalar(value, lead) {
  if (typeof value !== 'string') return h('span', { class: 'k-number' }, visible(typeof value === 'object' ? JSON.stringify(value) : value));
  const text = visibleLines(value);
  const lines = text.trimEnd().split('\n');
  const shown = lines.length > 1 ? `\n${lines.map((line) => lead + line).join('\n')}` : text;
  return h('bdi', { class: 'k-string' }, folded(shown, FOLD, pieces));
}

function plain(body) {
  return h('div', { class: 'code' }, visibleLines(body).split('\n').slice(0, 5000).map((line) =>
    h('div', { class: 'code-line' }, h('bdi', null, folded(line, FOLD, pieces)))));
}

function body(found) {
  if (!found.body) return null;
  const type = found.body_type.toLowerCase();
  return h('div', { class: 'body' }, h('div', { class: 'body-type muted' }, visible(found.body_type || 'body', 80)),
    type.includes('sdp') ? sdp(found.body) : type.includes('json') ? json(found.body) : plain(found.body));
}

/** The text of a message as lines, for the difference. */
function lines(found) {
  const head = found.start_line ? [found.start_line, ...found.headers.map(({ name, value }) => `${name}: ${value}`), ''] : [];
  return [...head, ...visibleLines(found.body).split('\n')].map((line) => visible(line, FOLD));
}

function dump(found) {
  const raw = Uint8Array.from(atob(found.raw), (character) => character.charCodeAt(0));
  const text = (until) => {
    const rows = [];
    for (let at = 0; at < until; at += 16) {
      const part = raw.subarray(at, Math.min(at + 16, until));
      const hex = Array.from(part, (byte) => byte.toString(16).padStart(2, '0'));
      const letters = Array.from(part, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
      rows.push(`${at.toString(16).padStart(5, '0')}  ${hex.slice(0, 8).join(' ').padEnd(23)}  ${hex.slice(8).join(' ').padEnd(23)}  ${letters}`);
    }
    return rows.join('\n');
  };
  const pre = h('pre', { class: 'hex', tabindex: 0, 'aria-label': 'Bytes' }, text(Math.min(raw.length, DUMP)));
  const more = raw.length > DUMP && h('button', {
    type: 'button', class: 'more', onclick: (event) => {
      pre.textContent = text(raw.length);
      event.target.remove();
    },
  }, `show all ${bytes(raw.length)}`);
  const cut = found.size > raw.length && h('p', { class: 'muted' }, `The first ${bytes(raw.length)} of ${bytes(found.size)}.`);
  return h('div', null, pre, more, cut);
}

/** Steps that a message may be compared with, the best first. */
export function comparable(steps, index) {
  const step = steps[index];
  const found = [];
  const add = (other, why) => {
    if (other != null && other >= 0 && other !== index && !found.some((each) => each.index === other)) found.push({ index: other, why });
  };
  add(step.copy_of, 'the one it is a copy of');
  add(step.retransmission_of, 'the first time it was sent');
  for (let other = index - 1; other >= 0 && found.length < 12; other -= 1) {
    const each = steps[other];
    if (each.kind !== step.kind) continue;
    if (step.kind !== 'sip') add(other, 'the previous event');
    else if (each.method === step.method && !each.status === !step.status) {
      if (each.source === step.source && each.destination === step.destination) add(other, 'the previous of its kind');
      else add(other, 'on another leg');
    }
  }
  // A message may be answered in kind: the offer beside its answer.
  const rank = ({ why }) => ['the one it is a copy of', 'the first time it was sent', 'the previous of its kind', 'the previous event'].indexOf(why);
  return found.sort((a, b) => (rank(a) < 0 ? 9 : rank(a)) - (rank(b) < 0 ? 9 : rank(b)));
}

export class MessagePane {
  /** @param {() => void} closed the pane was closed. */
  constructor(closed) {
    this.tab = 'message';
    this.head = h('div', { class: 'pane-head' });
    this.tabs = [['message', 'Message'], ['difference', 'Difference'], ['raw', 'Raw']].map(([name, label], number) => h('button', {
      type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'pane-body', 'data-tab': name, title: `${label} (${number + 1})`,
      onclick: () => this.choose(name),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = this.tabs[(number + step + this.tabs.length) % this.tabs.length];
        this.choose(next.dataset.tab);
        next.focus();
        event.stopPropagation();
      },
    }, label));
    this.body = h('div', { class: 'pane-body', id: 'pane-body', role: 'tabpanel', tabindex: 0 });
    this.element = h('aside', { class: 'pane', 'aria-label': 'Message', hidden: true }, this.head,
      h('div', { class: 'tabs' }, h('div', { role: 'tablist', 'aria-label': 'Views of the message', class: 'tablist' }, this.tabs),
        iconButton('copy', 'Copy the message (c)', () => this.copy()),
        iconButton('close', 'Close the message (Esc)', closed)), this.body);
  }

  get isOpen() { return !this.element.hidden; }

  async show(steps, index) {
    this.steps = steps;
    this.index = index;
    this.against = null;
    this.element.hidden = false;
    const step = steps[index];
    clear(this.head, h('div', { class: `pane-title tone-${step.tone}` }, data(step.label, { longest: 200 })),
      h('div', { class: 'pane-facts muted' }, data(step.src, { class: 'mono' }), ' → ', data(step.dst, { class: 'mono' }), ' · ', clock(step.at, { date: true, parts: 6 })));
    await this.#fill();
  }

  /** Follows a picture that was drawn again: the same message may be another step. */
  follow(steps, index) {
    if (this.against != null) this.against = Math.min(this.against, steps.length - 1);
    this.steps = steps;
    this.index = index;
  }

  get record() { return this.isOpen ? this.steps[this.index].record : null; }

  hide() { this.element.hidden = true; }

  choose(tab) {
    this.tab = tab;
    return this.#fill();
  }

  async copy() {
    try {
      const found = await message(this.steps[this.index]);
      const raw = Uint8Array.from(atob(found.raw), (character) => character.charCodeAt(0));
      await copy(new TextDecoder().decode(raw), 'Message copied');
    } catch { /* the pane says why it did not come */ }
  }

  key(event) {
    const tab = { 1: 'message', 2: 'difference', 3: 'raw' }[event.key];
    if (tab) this.choose(tab);
    else if (event.key === 'c') this.copy();
    else return false;
    return true;
  }

  async #fill() {
    for (const tab of this.tabs) {
      tab.setAttribute('aria-selected', tab.dataset.tab === this.tab);
      tab.tabIndex = tab.dataset.tab === this.tab ? 0 : -1;
    }
    this.body.setAttribute('aria-labelledby', `tab-${this.tab}`);
    const { index, tab } = this;
    try {
      const found = await message(this.steps[index]);
      const shown = tab === 'raw' ? dump(found) : tab === 'difference' ? await this.#difference(found) : this.#message(found);
      // Another message may have been chosen while this one came.
      if (index !== this.index || tab !== this.tab) return;
      clear(this.body, shown);
      this.body.scrollTop = 0;
    } catch (failure) {
      clear(this.body, h('p', { class: 'error', role: 'alert' }, visible(failure.message)));
    }
  }

  #message(found) {
    return h('div', null,
      found.start_line && h('div', { class: 'start-line' }, h('bdi', null, folded(visible(found.start_line, 70_000), FOLD, pieces))),
      found.headers.length ? headers(found) : null, body(found),
      h('div', { class: 'packet muted' }, [
        `packet ${found.id}`, visible(found.protocol, 20), bytes(found.size), found.node && `node ${visible(found.node, 80)}`,
        found.capture_id && `capture id ${found.capture_id}`].filter(Boolean).join(' · '),
      found.connection && [' · ', h('a', { href: connectionLink(found.connection) }, 'connection ', data(found.connection, { longest: 40 }))]));
  }

  async #difference(found) {
    const others = comparable(this.steps, this.index);
    if (!others.length) return h('p', { class: 'muted pad' }, 'There is no earlier message of its kind to compare with.');
    this.against ??= others[0].index;
    const other = await message(this.steps[this.against]);
    const choice = h('select', { 'aria-label': 'Compare with', onchange: (event) => {
      this.against = Number(event.target.value);
      this.#fill();
    } }, others.map(({ index, why }) => h('option', { value: index, selected: index === this.against },
      `${index + 1}. ${visible(this.steps[index].label, 40)}: ${why}`)));
    const found_ = differences(lines(other), lines(found));
    const changed = found_.filter(([sign]) => sign !== ' ').length;
    return h('div', null, h('div', { class: 'compare' }, h('label', null, 'Compared with ', choice),
      h('span', { class: 'muted' }, changed ? `${changed} lines differ` : 'no difference')),
    h('div', { class: 'code diff' }, found_.map(([sign, line]) => h('div', {
      class: `code-line ${sign === '-' ? 'removed' : sign === '+' ? 'added' : 'same'}`,
    }, h('span', { class: 'sign' }, sign), h('bdi', null, pieces(line))))));
  }
}
