// Small parts that several views use.
import { copy, data, h, icon, iconButton } from '../dom.js';
import { connectionLink } from '../router.js';
import { visible } from '../text.js';

/** A labelled value; empty ones are left out. */
export function fact(label, value, { link = '', copies = false, mono = false } = {}) {
  if (value === '' || value == null || value === 0) return null;
  const shown = value.nodeType ? value : data(value, { class: mono ? 'mono' : '', longest: 300, title: true });
  return h('div', { class: 'fact' }, h('dt', null, label), h('dd', null,
    link ? h('a', { href: link }, shown) : shown,
    copies && iconButton('copy', `Copy ${label}`, () => copy(String(value), `${label} copied`))));
}

export const facts = (...children) => h('dl', { class: 'facts' }, children);

const STATES = { open: ['open', 'good'], closed: ['ok', 'quiet'], refused: ['rejected', 'bad'], failed: ['failed', 'bad'] };

/** The tone of a connection: closed with an error code is a warning. */
export function connectionTone(row) {
  if (row.state === 'closed' && ![0, 1000, 1001, 1005].includes(row.code)) return 'warn';
  return (STATES[row.state] ?? STATES.failed)[1];
}

export const connectionIcon = (row) =>
  (connectionTone(row) === 'warn' ? 'lost' : (STATES[row.state] ?? STATES.failed)[0]);

/** A coloured chip that says its state in words, with a drawing. */
export const chip = (tone, drawing, text) =>
  h('span', { class: `state tone-${tone}` }, icon(drawing), h('span', null, visible(text, 40)));

export const connectionChip = (row) => chip(connectionTone(row), connectionIcon(row), row.state);

/** A connection as a link with its state. */
export const connectionBadge = (row) => h('a', { class: 'badge', href: connectionLink(row.id), title: `Connection ${visible(row.id, 80)}` },
  connectionChip(row), data(row.peer || row.id, { class: 'mono', longest: 60 }),
  row.code ? h('span', { class: 'muted' }, String(row.code)) : null);

/** What replaces a view that did not come. */
export function problem(failure, again) {
  return h('div', { class: 'empty' }, h('div', { class: 'empty-small' },
    h('h2', null, failure.status === 404 ? 'Not found' : 'This did not come'),
    h('p', null, visible(failure.message)),
    again && h('button', { type: 'button', class: 'button', onclick: again }, 'Try again'),
    h('a', { class: 'button', href: '#/calls' }, 'To the calls')));
}
