// The sipws beside the viewer: its switch for tracing, destinations and connections.
import { get, post } from '../api.js';
import { clear, data, h, icon, toast } from '../dom.js';
import { dialog } from '../menu.js';
import { count, visible } from '../text.js';
import { fact, facts, problem } from './parts.js';

const EVERY = 3000; // ms between two looks

// Names of a connection's fields as tcp_list of OpenSIPS and sipws writes them.
const pick = (row, ...names) => {
  const found = Object.keys(row).find((name) => names.includes(name.toLowerCase()));
  return found === undefined ? '' : row[found];
};

export class ControlView {
  title = 'Control';

  constructor(app) {
    this.app = app;
    this.body = h('div', { class: 'scroll' });
    this.element = h('section', { class: 'view control-view', 'aria-label': 'Control' }, this.body);
    this.timer = setInterval(() => { if (!document.hidden && !document.querySelector('dialog[open]')) this.load(); }, EVERY);
  }

  show() { return this.load(); }

  async load() {
    try {
      const answer = await get('control');
      if (!this.closed) this.#draw(answer);
    } catch (failure) {
      if (!this.closed) clear(this.body, problem(failure, () => this.load()));
    }
  }

  #draw(answer) {
    // The same answer draws nothing, so that focus and marked text stay.
    const text = JSON.stringify(answer);
    if (text === this.drawn) return;
    this.drawn = text;
    const focused = document.activeElement?.dataset?.key;
    clear(this.body,
      h('section', { class: 'card' }, h('h2', null, 'sipws'), answer.reachable ? null : h('p', { class: 'notice bad', role: 'alert' }, icon('warn'), `It cannot be reached: ${visible(answer.problem)}`),
        facts(fact('URL', answer.url, { mono: true }), fact('Version', answer.version), fact('Up for', answer.uptime)),
        answer.reachable && h('div', { class: 'switches' }, Object.entries(answer.trace).map(([protocol, on]) => this.#switch(protocol, on)))),
      answer.reachable && h('section', { class: 'card' }, h('h2', null, 'Destinations of traces'), this.#destinations(answer.destinations)),
      answer.reachable && h('section', { class: 'card' }, h('h2', null, `Open connections (${count(answer.connections.length)})`), this.#connections(answer.connections)));
    if (focused) this.body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #switch(protocol, on) {
    return h('button', { type: 'button', role: 'switch', class: 'switch', 'aria-checked': on, 'data-key': `switch ${protocol}`, onclick: async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      try {
        await post('control/trace', { on: !on, only: protocol });
        toast(`Tracing of ${protocol} is ${on ? 'off' : 'on'}`);
      } catch (failure) { toast(failure.message, 'bad'); }
      this.drawn = null;
      await this.load();
      this.body.querySelector(`[data-key="switch ${CSS.escape(protocol)}"]`)?.focus();
    } }, h('span', { class: 'knob', 'aria-hidden': 'true' }), h('span', null, `Trace ${visible(protocol, 10)}`), h('span', { class: 'muted' }, on ? 'on' : 'off'));
  }

  #destinations(rows) {
    if (!rows.length) return h('p', { class: 'muted' }, 'It has none.');
    return h('table', { class: 'groups' }, h('thead', null, h('tr', null, ['Name', 'State', 'Sent', 'Dropped', 'Queued', 'Detail'].map((name, index) => h('th', { scope: 'col', class: index > 1 && index < 5 ? 'number' : null }, name)))),
      h('tbody', null, rows.map((row) => h('tr', null,
        h('td', null, data(row.name, { longest: 80 })), h('td', null, data(row.state, { longest: 40 })), h('td', { class: 'number' }, count(row.sent)),
        h('td', { class: `number${row.dropped ? ' bad' : ''}` }, count(row.dropped)), h('td', { class: 'number' }, count(row.queued)), h('td', { class: 'g-detail' }, data(row.detail, { longest: 300, title: true }))))));
  }

  #connections(rows) {
    if (!rows.length) return h('p', { class: 'muted' }, 'It has none.');
    return h('table', { class: 'groups' }, h('thead', null, h('tr', null, ['Id', 'Type', 'State', 'Remote', ''].map((name) => h('th', { scope: 'col', class: ['Type', 'State'].includes(name) ? 'wide-only' : null }, name)))),
      h('tbody', null, rows.slice(0, 500).map((row) => {
        const id = String(pick(row, 'id', 'conn_id'));
        return h('tr', null, h('td', null, data(id, { class: 'mono', longest: 60, title: true })), h('td', { class: 'wide-only' }, data(pick(row, 'type', 'proto'), { longest: 20 })), h('td', { class: 'wide-only' }, data(pick(row, 'state'), { longest: 30 })),
          h('td', null, data(pick(row, 'remote', 'peer', 'source'), { class: 'mono', longest: 60 })),
          h('td', { class: 'number' }, h('button', { type: 'button', class: 'button danger', 'data-key': `close ${id}`, 'aria-label': `Close connection ${visible(id, 60)}`, onclick: () => this.#close(id, row) }, 'Close…')));
      })));
  }

  #close(id, row) {
    const code = h('input', { type: 'number', min: 1000, max: 4999, value: 1001, required: true, name: 'code' });
    const reason = h('input', { type: 'text', maxlength: 123, name: 'reason', placeholder: 'optional' });
    const error = h('p', { class: 'error', role: 'alert' });
    const form = h('form', { onsubmit: async (event) => {
      event.preventDefault();
      try {
        await post('control/close', { id, code: Number(code.value), reason: reason.value });
        element.close();
        toast('The connection is being closed');
        this.drawn = null;
        this.load();
      } catch (failure) { error.textContent = visible(failure.message); }
    } }, h('p', null, 'The peer at ', data(pick(row, 'remote', 'peer', 'source') || id, { class: 'mono' }), ' gets a close frame. Calls on this connection lose it.'),
    h('label', null, 'Code', code), h('label', null, 'Reason', reason), error,
    h('div', { class: 'dialog-foot' }, h('button', { type: 'button', class: 'button', onclick: () => element.close() }, 'Cancel'), h('button', { type: 'submit', class: 'button primary danger' }, 'Close the connection')));
    const element = dialog('Close a connection', form);
  }

  key(event) {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    const stops = [...this.body.querySelectorAll('button')];
    if (!step || !stops.length) return false;
    stops[Math.max(0, Math.min(stops.length - 1, stops.indexOf(document.activeElement) + step))].focus();
    return true;
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
  }
}
