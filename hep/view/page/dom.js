// Builds elements. The only way in for content is a text node or a plain attribute: there is no
// innerHTML in this page, and no style attribute, which the Content-Security-Policy forbids.
import { marked, visible } from './text.js';

const SVG = 'http://www.w3.org/2000/svg';

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null) continue;
    if (name.startsWith('aria-')) element.setAttribute(name, value);
    else if (value === false) continue;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'hidden' || name === 'checked' || name === 'disabled') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(3)) {
    if (child == null || child === false) continue;
    element.append(child.nodeType ? child : String(child));
  }
}

/** An element: h('p', {class: 'x', onclick: run}, 'text', node, …). */
export const h = (tag, attributes, ...children) =>
  build(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

/** Content of the network on one line: isolated, hidden characters marked. */
export function data(value, { class: name = '', longest = 512, tag = 'span', title = false } = {}) {
  const text = visible(value, longest);
  const element = h(tag, { class: `data ${name}`.trim(), title: title ? text : null });
  append(element, pieces(text));
  return element;
}

/** Nodes of visible text, its marks coloured. */
export function pieces(text) {
  if (!text.includes('⟨U+')) return [text];
  return marked(text).map((part, index) => (index % 2 ? h('span', { class: 'mark' }, part) : part));
}

/** Writes a text unless it stands there already; rows that are used again often keep a cell. */
export function put(element, text) {
  const node = element.firstChild;
  if (!node) element.textContent = text;
  else if (node.data !== text) node.data = text;
}

/** Sets the classes of a row, if they are others. */
export function tint(element, classes) {
  if (element.className !== classes) element.className = classes;
}

export function clear(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// Drawn on a grid of 16 by 16.
const ICONS = {
  open: 'M8 3.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 0 0 0-9.6M8 6.2a1.8 1.8 0 1 1 0 3.6a1.8 1.8 0 0 1 0-3.6',
  ok: 'M3 8.6l3.2 3.2L13 4.6',
  cancelled: 'M8 2.7a5.3 5.3 0 1 0 0 10.6a5.3 5.3 0 0 0 0-10.6M4.4 11.6l7.2-7.2',
  rejected: 'M4 4l8 8M12 4l-8 8',
  failed: 'M8 2.2l6.3 11.3H1.7zM8 6.4v3.2M8 11.4v.6',
  lost: 'M9.2 1.8L4 9h4l-1.2 5.2L12 7H8z',
  sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6a2.8 2.8 0 0 0 0-5.6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M13 3l-1.2 1.2M4.2 11.8L3 13',
  moon: 'M13.4 9.8A5.8 5.8 0 0 1 6.2 2.6a5.8 5.8 0 1 0 7.2 7.2z',
  search: 'M7 2.4a4.6 4.6 0 1 0 0 9.2a4.6 4.6 0 0 0 0-9.2M10.4 10.4L14 14',
  pause: 'M5.4 3v10M10.6 3v10',
  play: 'M4.5 2.8l8.4 5.2l-8.4 5.2z',
  close: 'M4 4l8 8M12 4l-8 8',
  back: 'M9.6 3L4.6 8l5 5',
  copy: 'M5.5 5.5h8v8h-8zM3 10.5h-.5v-8h8V3',
  link: 'M6.6 9.4l2.8-2.8M7.4 4.8l1.8-1.8a2.7 2.7 0 0 1 3.8 3.8l-1.8 1.8M8.6 11.2l-1.8 1.8A2.7 2.7 0 0 1 3 9.2l1.8-1.8',
  export: 'M8 2v8M4.8 7L8 10.2L11.2 7M2.6 13.4h10.8',
  clock: 'M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 0 0 8 2.4M8 5v3.2l2.2 1.4',
  warn: 'M8 2.2l6.3 11.3H1.7zM8 6.4v3.2M8 11.4v.6',
};

/** A small drawing beside a word; it says nothing that the word does not. */
export const icon = (name) => s('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' },
  s('path', { d: ICONS[name] ?? ICONS.open }));

/** Changes the drawing of an icon, for rows that are used again. */
export function setIcon(element, name) {
  element.firstChild.setAttribute('d', ICONS[name] ?? ICONS.open);
}

/** A message at the foot of the page for a few seconds, read out by screen readers. */
export function toast(text, tone = 'info') {
  const area = document.getElementById('toasts');
  const note = h('div', { class: `toast tone-${tone}` }, pieces(visible(text)));
  area.append(note);
  setTimeout(() => note.remove(), 4000);
}

/** Copies text; pages that are not on loopback or HTTPS have no clipboard interface. */
export async function copy(text, what = 'Copied') {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h('textarea', { class: 'offscreen', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    document.execCommand('copy');
    area.remove();
    focused?.focus();
  }
  toast(what);
}

/** Gives the focus to the main part of a view, unless something is being typed. */
export function settle(element) {
  if (!document.activeElement?.matches('input, select, textarea')) element.focus({ preventScroll: true });
}

/** A button with a drawing; its label is read out and shown on hover. */
export const iconButton = (name, label, run, attributes = {}) =>
  h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick: run, ...attributes },
    icon(name));

/**
 * Runs a function when an element has another size. Not within the notification: what it changes
 * may change the size again, which browsers report as an error.
 */
export function whenResized(element, run) {
  let frame = 0;
  const observer = new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(run);
  });
  observer.observe(element);
  return observer;
}

/** Runs a function once after the last of several calls. */
export function debounced(run, milliseconds) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/**
 * Runs a function some time after the first of several calls, and again for calls after that. Live
 * changes may come faster than any pause, for which `debounced` would wait for ever.
 * @param {number | (() => number)} milliseconds
 */
export function throttled(run, milliseconds) {
  let timer = 0;
  const later = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      run();
    }, typeof milliseconds === 'function' ? milliseconds() : milliseconds);
  };
  later.cancel = () => {
    clearTimeout(timer);
    timer = 0;
  };
  return later;
}
