// Closed connections by code: a chart over time, and what each code means.
import { clear, h, s, whenResized } from '../dom.js';
import { clock, count, duration, plural } from '../text.js';
import { OverTime } from './refusals.js';
import { fragment } from '../router.js';

// Names of RFC 6455 section 7.4.1 and of IANA's registry.
const MEANINGS = {
  1000: ['Normal Closure', 'The purpose of the connection was fulfilled.'],
  1001: ['Going Away', 'A page was left, or a server goes down.'],
  1002: ['Protocol Error', 'An endpoint broke the protocol.'],
  1003: ['Unsupported Data', 'A type of data came that cannot be accepted.'],
  1005: ['No Status Rcvd', 'The close frame had no code.'],
  1006: ['Abnormal Closure', 'The connection ended without a close frame.'],
  1007: ['Invalid frame payload data', 'Text that is no UTF-8.'],
  1008: ['Policy Violation', 'A message violates the policy.'],
  1009: ['Message Too Big', 'A message was too big.'],
  1010: ['Mandatory Ext.', 'The server did not negotiate an extension.'],
  1011: ['Internal Error', 'The server met an unexpected condition.'],
  1012: ['Service Restart', 'The server restarts.'],
  1013: ['Try Again Later', 'The server is overloaded.'],
  1014: ['Bad Gateway', 'A gateway got an invalid answer.'],
  1015: ['TLS handshake', 'The TLS handshake failed.'],
};

function meaning(code) {
  if (MEANINGS[code]) return MEANINGS[code];
  if (code >= 3000 && code < 4000) return ['Registered', 'Of a library or framework.'];
  if (code >= 4000 && code < 5000) return ['Private use', 'Of the application.'];
  return code ? ['Not defined', ''] : ['Without a code', 'The event names no code.'];
}

const HEIGHT = 220;
const LEFT = 40;
const BOTTOM = 24;
const TOP = 10;

// A code has the same colour at each visit; those that are not here take what is left.
const COLOURS = { 1000: 2, 1001: 0, 1005: 7, 1006: 3, 1002: 1, 1011: 4 };
const FREE = [5, 6, 1, 4];

/** The steps of an axis: 1, 2 or 5 times a power of ten, at most five of them. */
function ticks(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const values = [];
  for (let value = 0; value < most + step; value += step) values.push(value);
  return values;
}

export class ClosesView extends OverTime {
  title = 'Closes';

  constructor(app) {
    super(app, 'closes');
    this.element.setAttribute('aria-label', 'Closes');
    this.bucket = -1;
    this.readout = h('div', { class: 'readout', 'aria-live': 'polite' });
    this.chart = h('div', { class: 'chart', tabindex: 0, role: 'img' });
    this.chart.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, h: -1, l: 1 }[event.key];
      if (!step) return;
      this.#point(Math.max(0, Math.min(this.answer.buckets.length - 1, this.bucket < 0 ? this.answer.buckets.length - 1 : this.bucket + step)));
      event.preventDefault();
      event.stopPropagation();
    });
    this.chart.addEventListener('pointermove', (event) => this.#hover(event));
    this.chart.addEventListener('pointerleave', () => this.#point(-1));
    this.observer = whenResized(this.chart, () => { if (this.answer?.codes.length) this.#paint(); });
  }

  more() { return { buckets: 60 }; }

  draw(answer) {
    this.answer = answer;
    const total = answer.codes.reduce((sum, code) => sum + code.by_peer + code.by_local + code.other, 0);
    this.count.textContent = plural(total, 'closed connection');
    if (!total) {
      clear(this.body, h('div', { class: 'empty' }, h('div', { class: 'empty-small' }, h('h2', null, 'No connection has closed'), h('p', null, 'Connections that end appear here by their close code.'))));
      return;
    }
    const taken = new Set(answer.codes.map(({ code }) => COLOURS[code]));
    const free = FREE.filter((series) => !taken.has(series));
    this.series = new Map(answer.codes.map(({ code }) => [code, COLOURS[code] ?? free.shift() ?? 6]));
    this.sums = new Map(answer.codes.map((each) => [each.code, each.by_peer + each.by_local + each.other]));
    if (!this.chart.isConnected) {
      this.table = h('section', { class: 'card' });
      clear(this.body, h('div', { class: 'columns chart-columns' },
        h('section', { class: 'card' }, h('h2', null, 'Closes over time'), this.chart, this.readout), this.table));
    }
    this.#paint();
    this.#codes(total);
    this.#point(this.bucket);
  }

  #codes(total) {
    clear(this.table, h('h2', null, 'Codes'), h('table', { class: 'groups' },
      h('thead', null, h('tr', null, ['Code', 'Meaning', 'Peer', 'Server', '?', 'Share'].map((name) => h('th', { scope: 'col', class: `g-${name === '?' ? 'other' : name.toLowerCase()}`, title: { Peer: 'Closed by the peer', Server: 'Closed by the server', '?': 'The events do not say who closed' }[name] }, name)))),
      h('tbody', null, this.answer.codes.map((each) => {
        const sum = each.by_peer + each.by_local + each.other;
        const [name, text] = meaning(each.code);
        return h('tr', null,
          h('td', { class: 'g-code' }, h('a', { class: 'row-link', 'data-key': each.code, href: fragment('connections', '', [['state', 'closed'], ...this.pairs()]) },
            h('span', { class: `swatch series-${this.series.get(each.code)}`, 'aria-hidden': 'true' }), String(each.code || '–'))),
          h('td', { class: 'g-meaning' }, h('div', null, name), h('div', { class: 'muted' }, text)),
          h('td', { class: 'number' }, count(each.by_peer)), h('td', { class: 'number' }, count(each.by_local)), h('td', { class: 'number' }, count(each.other)),
          h('td', { class: 'number' }, `${Math.round((100 * sum) / total)} %`));
      }))));
  }

  #paint() {
    const width = this.chart.clientWidth;
    if (!width) return;
    const { buckets, step } = this.answer;
    const totals = buckets.map((bucket) => Object.values(bucket.counts).reduce((sum, each) => sum + each, 0));
    const marks = ticks(Math.max(1, ...totals));
    const most = marks.at(-1);
    const inner = HEIGHT - BOTTOM - TOP;
    const y = (value) => TOP + inner * (1 - value / most);
    this.slot = (width - LEFT - 4) / Math.max(1, buckets.length);
    const nodes = marks.map((value) => [
      s('line', { class: 'rule', x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      s('text', { class: 'axis', x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, count(value))]);
    const every = Math.max(1, Math.ceil(buckets.length / (width / 90)));
    const days = step * buckets.length > 86_400e6;
    buckets.forEach((bucket, index) => {
      const x = LEFT + index * this.slot;
      nodes.push(s('rect', { class: 'slot', x, y: TOP, width: this.slot, height: inner, 'data-bucket': index }));
      let sum = 0;
      // The order of the table, so that a code has the same place in each bar.
      for (const [code, series] of this.series) {
        const value = bucket.counts[code] ?? 0;
        if (!value) continue;
        const top = y(sum + value);
        nodes.push(s('rect', { class: `part series-${series}`, x: x + 1, y: top, width: Math.max(1, this.slot - 2), height: Math.max(0.5, y(sum) - top - 0.5) }));
        sum += value;
      }
      if (index % every === 0 && x < width - 50) {
        nodes.push(s('text', { class: 'axis', x, y: HEIGHT - 6 }, days ? clock(bucket.at, { date: true, parts: 0 }).slice(5, 16) : clock(bucket.at, { parts: 0 }).slice(0, step < 60e6 ? 8 : 5)));
      }
    });
    clear(this.chart, s('svg', { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, 'aria-hidden': 'true' }, nodes));
    this.chart.setAttribute('aria-label', `Closes by code in ${buckets.length} parts of ${duration(step)}. Left and right move over them; the table has the sums.`);
  }

  #hover(event) {
    const bucket = event.target.getAttribute?.('data-bucket');
    const at = bucket ?? Math.floor((event.clientX - this.chart.getBoundingClientRect().left - LEFT) / this.slot);
    this.#point(Number(at) >= 0 && Number(at) < this.answer.buckets.length ? Number(at) : -1);
  }

  // What stands below the chart: the counts of the part that is pointed at, or the legend.
  #point(index) {
    this.bucket = index;
    for (const slot of this.chart.querySelectorAll('.slot')) slot.classList.toggle('on', Number(slot.getAttribute('data-bucket')) === index);
    const bucket = this.answer?.buckets[index];
    const entries = [...(this.series ?? [])].map(([code, series]) => h('span', { class: 'legend' },
      h('span', { class: `swatch series-${series}`, 'aria-hidden': 'true' }), `${code || 'no code'} `,
      h('strong', null, count(bucket ? bucket.counts[code] ?? 0 : this.sums.get(code)))));
    clear(this.readout, h('span', { class: 'legend-time' }, bucket ? `${clock(bucket.at, { parts: 0 })} + ${duration(this.answer.step)}` : 'All'), entries);
  }

  close() {
    super.close();
    this.observer.disconnect();
  }
}
