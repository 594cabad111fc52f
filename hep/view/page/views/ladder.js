// The ladder: a column for each party, a row for each message or event, drawn in SVG.
//
// A message that a relay passed on is drawn in the row of the one it is a copy of, as long as their
// arrows do not cross: both legs of a relayed message read as one line.
import { data, h, s, whenResized } from '../dom.js';
import { clock, gap, plural, visible } from '../text.js';

const ROW = 38;
const EVENT_ROW = 30;
const TIMES = 152; // the gutter on the left
const TIMES_NARROW = 64;
const COLUMN = 190; // least width of a column
const COLUMN_NARROW = 84;

const ROLES = { phone: 'phone', server: 'tracing server', upstream: 'upstream', unknown: '' };
const SIGNS = { good: '✓', bad: '✕', warn: '!', info: '', quiet: '' };

/** Puts steps into rows. @returns {{steps: number[], event: boolean}[]} */
export function rowsOf(steps) {
  const rows = [];
  const span = (step) => [Math.min(step.source, step.destination), Math.max(step.source, step.destination)];
  steps.forEach((step, index) => {
    const last = rows.at(-1);
    const [from, to] = span(step);
    const fits = step.kind === 'sip' && step.copy_of != null && last && !last.event
      && last.steps.includes(step.copy_of) && from !== to
      && last.steps.every((other) => {
        const [a, b] = span(steps[other]);
        return to <= a || b <= from;
      });
    if (fits) last.steps.push(index);
    else rows.push({ steps: [index], event: step.kind !== 'sip' });
  });
  return rows;
}

// Widths are measured on a canvas: asking SVG texts would lay out the picture for each of them.
let pen = null;
const fonts = { label: '', detail: '' };

function width(text, kind) {
  if (!pen) {
    pen = document.createElement('canvas').getContext('2d');
    const family = getComputedStyle(document.body).fontFamily;
    fonts.label = `600 11.5px ${family}`;
    fonts.detail = `10.5px ${family}`;
  }
  pen.font = fonts[kind];
  return pen.measureText(text).width;
}

/** As much of a label as fits. */
function cut(text, room) {
  const size = width(text, 'label');
  if (size <= room) return text;
  let letters = Math.max(1, Math.floor((text.length * room) / size));
  while (letters > 1 && width(`${text.slice(0, letters)}…`, 'label') > room) letters -= 1;
  return `${text.slice(0, letters)}…`;
}

// The detail, or that there is SDP, or nothing: a cut word is of no use.
function fitting(step, room) {
  return [visible(step.detail, 80), step.has_sdp ? 'SDP' : ''].find((text) => width(text, 'detail') <= room - 9) ?? '';
}

export class LadderPicture {
  /**
   * @param {(index: number) => void} selected a step was chosen, by click or Enter.
   */
  constructor(selected) {
    this.onselect = selected;
    this.absolute = false;
    this.cursor = 0;
    this.head = h('div', { class: 'ladder-head' });
    this.svg = s('svg', { class: 'ladder', role: 'presentation' });
    this.box = h('div', { class: 'ladder-box', role: 'presentation' }, this.head, this.svg);
    this.element = h('div', { class: 'ladder-scroll', tabindex: 0, role: 'listbox', 'aria-label': 'Messages and events in order of time' }, this.box);
    this.observer = whenResized(this.element, () => this.#resized());
    this.svg.addEventListener('click', (event) => {
      const group = event.target.closest('[data-step]');
      if (group) this.choose(Number(group.getAttribute('data-step')));
    });
  }

  /** @param {{parties: object[], steps: object[]}} picture */
  show(picture) {
    this.picture = picture;
    this.rows = rowsOf(picture.steps);
    this.rowOf = [];
    this.rows.forEach((row, number) => row.steps.forEach((step) => { this.rowOf[step] = number; }));
    this.cursor = Math.min(this.cursor, Math.max(0, picture.steps.length - 1));
    this.width = 0;
    this.#resized();
  }

  setAbsolute(on) {
    this.absolute = on;
    this.#draw();
  }

  /** Moves the cursor; returns whether the key was one of the ladder's. */
  key(event) {
    const last = this.picture.steps.length - 1;
    const to = { ArrowDown: this.cursor + 1, j: this.cursor + 1, ArrowUp: this.cursor - 1, k: this.cursor - 1,
      PageDown: this.cursor + 10, PageUp: this.cursor - 10, Home: 0, End: last }[event.key];
    if (to !== undefined) this.move(to);
    else if (event.key === 'Enter' || event.key === ' ') this.choose(this.cursor);
    else return false;
    return true;
  }

  move(index) {
    this.cursor = Math.max(0, Math.min(this.picture.steps.length - 1, index));
    this.mark();
    this.#reveal();
    this.onmove?.(this.cursor);
  }

  choose(index) {
    this.cursor = index;
    this.chosen = index;
    this.mark();
    this.onselect(index);
    this.#reveal();
  }

  unchoose() {
    this.chosen = null;
    this.mark();
  }

  #resized() {
    const width = this.element.clientWidth;
    if (!this.picture || !width || width === this.width) return;
    this.width = width;
    this.#draw();
  }

  #geometry() {
    const count = Math.max(1, this.picture.parties.length);
    this.narrow = this.width < 640;
    this.gutter = this.narrow ? TIMES_NARROW : TIMES;
    const least = this.narrow ? COLUMN_NARROW : COLUMN * 0.62;
    const room = (this.width - this.gutter - 8) / count;
    this.column = Math.max(least, Math.min(room, 400));
    this.full = Math.max(this.width, this.gutter + this.column * count + 8);
    this.x = (party) => this.gutter + this.column * (party + 0.5);
  }

  #draw() {
    if (!this.width) return;
    this.#geometry();
    const { parties, steps } = this.picture;
    const shown = this.full - (this.full > this.width ? 0 : 1);
    this.box.style.width = `${shown}px`;
    this.head.style.gridTemplateColumns = `${this.gutter}px repeat(${parties.length}, ${this.column}px)`;
    this.head.replaceChildren(
      h('div', { class: 'times-head' }, this.narrow ? (this.absolute ? 'Time' : 'previous') : this.absolute ? [h('span', null, 'Time'), h('span', null, 'previous')] : [h('span', null, 'Since first'), h('span', null, 'previous')]),
      ...parties.map((party) => this.#party(party)));
    let y = 10;
    this.tops = this.rows.map((row) => {
      const top = y;
      y += row.event ? EVENT_ROW : ROW;
      return top;
    });
    const height = y + 14;
    this.svg.setAttribute('width', shown);
    this.svg.setAttribute('height', height);
    this.svg.setAttribute('viewBox', `0 0 ${shown} ${height}`);
    const nodes = parties.map((party, index) => s('line', { class: 'life', x1: this.x(index), x2: this.x(index), y1: 0, y2: height }));
    const first = steps.length ? Math.min(...steps.slice(0, 50).map((step) => step.at)) : 0;
    this.groups = [];
    let previous = null;
    this.rows.forEach((row, number) => {
      const lead = steps[row.steps[0]];
      const band = s('rect', { class: 'band', x: 0, y: this.tops[number], width: shown, height: row.event ? EVENT_ROW : ROW, 'data-step': row.steps[0] });
      const times = this.#times(lead, first, previous, this.tops[number], row.event);
      nodes.push(s('g', { class: 'line', role: 'presentation' }, band, times, row.steps.map((index) => this.#step(index, number, row))));
      previous = steps[row.steps.at(-1)].at;
    });
    this.svg.replaceChildren(...nodes);
    this.mark();
  }

  #party(party) {
    const addresses = party.addresses.map((address) => visible(address, 80));
    return h('div', { class: `party role-${party.role}`, title: [visible(party.name, 120), ...addresses, visible(party.user_agent, 200)].filter(Boolean).join('\n') },
      data(party.name, { class: 'party-name', longest: 60 }),
      h('span', { class: 'party-role' }, ROLES[party.role] ?? ''),
      h('span', { class: 'party-addresses' }, data(party.addresses[0] ?? '', { class: 'mono', longest: 60 }),
        addresses.length > 1 ? h('span', { class: 'party-more' }, ` +${addresses.length - 1}`) : null),
      data(party.user_agent, { class: 'party-agent', longest: 60 }));
  }

  #times(step, first, previous, top, event) {
    const middle = top + (event ? EVENT_ROW / 2 : ROW / 2 + 5);
    const main = this.absolute ? clock(step.at, { parts: this.narrow ? 0 : 3 }) : gap(step.at - first);
    const since = previous == null ? '' : `+${gap(step.at - previous)}`;
    if (this.narrow) {
      return [s('text', { class: 'time', x: this.gutter - 8, y: middle, 'text-anchor': 'end' }, this.absolute ? main : since || main)];
    }
    return [
      s('text', { class: 'time', x: 74, y: middle + 1, 'text-anchor': 'end' }, main),
      s('text', { class: `since${step.at - previous > 1e6 && previous ? ' long' : ''}`, x: this.gutter - 10, y: middle + 1, 'text-anchor': 'end' }, since),
    ];
  }

  #step(index, number, row) {
    const step = this.picture.steps[index];
    const again = step.retransmission_of != null;
    const group = s('g', {
      class: `step ${step.kind} tone-${step.tone}${again ? ' again' : ''}${step.copy_of != null ? ' copy' : ''}`,
      role: 'option', id: `step-${index}`, 'data-step': index, 'aria-selected': 'false', 'aria-label': this.#spoken(step, again),
    });
    group.append(...(step.kind === 'sip' ? this.#arrow(step, number, again, row) : this.#bar(step, number)));
    this.groups[index] = group;
    return group;
  }

  #spoken(step, again) {
    const name = (party) => visible(this.picture.parties[party]?.name, 60);
    return [visible(step.label, 200), visible(step.detail, 200), again && 'retransmission', step.out_of_order && 'out of order',
      `${name(step.source)} to ${name(step.destination)}`, clock(step.at)].filter(Boolean).join(', ');
  }

  #arrow(step, number, again, row) {
    const from = this.x(step.source);
    const to = this.x(step.destination);
    const y = this.tops[number] + ROW / 2 + 7;
    const nodes = [];
    let [left, right] = [Math.min(from, to), Math.max(from, to)];
    if (step.source === step.destination) {
      // A message to itself: a loop to the right.
      right = left + this.column * 0.35;
      nodes.push(s('path', { class: 'arrow', d: `M${from} ${y - 8}H${right}V${y}H${from + 8}` }));
      nodes.push(s('path', { class: 'tip', d: `M${from + 1} ${y}l8 -4.500v9z` }));
    } else {
      const way = to > from ? 1 : -1;
      nodes.push(s('path', { class: 'arrow', d: `M${from} ${y}H${to - way * 8}` }));
      nodes.push(s('path', { class: 'tip', d: `M${to - way} ${y}l${-way * 8} -4.500v9z` }));
    }
    nodes.push(s('circle', { class: 'start', cx: from, cy: y, r: 2.5 }));
    const room = right - left - 14;
    const middle = (left + right) / 2;
    const sign = again ? '↻ ' : SIGNS[step.tone] && step.status ? `${SIGNS[step.tone]} ` : '';
    const label = cut(`${sign}${visible(step.label, 120)}`, room);
    // The detail stands at the leg where the message came from; a copy says the same.
    const detail = step.copy_of != null && this.picture.steps[row.steps[0]] !== step ? ''
      : fitting(step, room - width(label, 'label'));
    nodes.push(s('text', { class: 'label', x: middle, y: y - 6, 'text-anchor': 'middle' }, label,
      detail ? s('tspan', { class: 'detail', dx: 7 }, detail) : null));
    if (step.out_of_order) nodes.push(s('text', { class: 'late', x: middle, y: y + 11, 'text-anchor': 'middle' }, 'came late'));
    nodes.push(this.#title(step, again));
    return nodes;
  }

  #bar(step, number) {
    const left = Math.min(this.x(step.source), this.x(step.destination));
    const right = Math.max(this.x(step.source), this.x(step.destination));
    const reach = Math.min(28, this.column / 4);
    const [from, across] = [left - reach, right - left + 2 * reach];
    const y = this.tops[number] + 4;
    const text = [SIGNS[step.tone], visible(step.label, 160)].filter(Boolean).join(' ');
    const label = cut(text, across - 14);
    const detail = fitting(step, across - 14 - width(label, 'label'));
    return [
      s('rect', { class: 'event-bar', x: from, y, width: across, height: EVENT_ROW - 8, rx: 4 }),
      s('text', { class: 'label', x: from + across / 2, y: y + 15, 'text-anchor': 'middle' }, label,
        detail ? s('tspan', { class: 'detail', dx: 7 }, detail) : null),
      this.#title(step, false),
    ];
  }

  #title(step, again) {
    const title = s('title');
    title.textContent = [visible(step.label, 300), visible(step.detail, 300), again && `sent again (first: row ${step.retransmission_of + 1})`,
      `${visible(step.src, 80)} → ${visible(step.dst, 80)}`, clock(step.at, { date: true, parts: 6 })].filter(Boolean).join('\n');
    return title;
  }

  // A class for the cursor and one for what is open, on the step and on its row.
  mark() {
    for (const [name, index] of [['cursor', this.cursor], ['chosen', this.chosen]]) {
      for (const old of this.svg.querySelectorAll(`.${name}`)) old.classList.remove(name);
      const group = this.groups?.[index];
      if (!group) continue;
      group.classList.add(name);
      group.parentNode.classList.add(name);
    }
    for (const old of this.svg.querySelectorAll('[aria-selected=true]')) old.setAttribute('aria-selected', 'false');
    this.groups?.[this.chosen ?? this.cursor]?.setAttribute('aria-selected', 'true');
    this.element.setAttribute('aria-activedescendant', `step-${this.cursor}`);
  }

  #reveal() {
    const row = this.rowOf[this.cursor];
    if (row === undefined || !this.tops) return;
    const head = this.head.offsetHeight;
    const top = this.tops[row];
    const bottom = top + ROW + head;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = Math.max(0, top - 8);
    else if (bottom > scrollTop + clientHeight) this.element.scrollTop = bottom - clientHeight + 8;
  }

  close() { this.observer.disconnect(); }
}

/** What was not drawn, in words. */
export function leftOut(view) {
  return [view.left_out && `${plural(view.left_out, 'keep-alive')} left out`,
    view.cut && `${plural(view.cut, 'later message')} not shown`].filter(Boolean).join(', ');
}
