// Panels that open below a button, and the dialog of a question.
import { h, icon } from './dom.js';

let opened = null;

/** Closes the open panel; returns whether there was one. */
export function closeMenu() {
  if (!opened) return false;
  const { button, panel } = opened;
  opened = null;
  panel.hidden = true;
  button.setAttribute('aria-expanded', 'false');
  if (panel.contains(document.activeElement) || document.activeElement === document.body) button.focus();
  return true;
}

document.addEventListener('pointerdown', (event) => {
  if (opened && !opened.root.contains(event.target)) closeMenu();
});

/**
 * A button and its panel.
 * @param {string} label what stands on the button.
 * @param {Node[]} children contents of the panel.
 * @param {{icon?: string, align?: string, title?: string, opening?: Function}} [options]
 */
export function menu(label, children, options = {}) {
  const text = h('span', { class: 'menu-label' }, label);
  const button = h('button', {
    type: 'button', class: 'button', 'aria-haspopup': 'true', 'aria-expanded': 'false', title: options.title,
  }, options.icon && icon(options.icon), text, h('span', { class: 'caret', 'aria-hidden': 'true' }));
  const panel = h('div', { class: `panel ${options.align === 'right' ? 'panel-right' : ''}`, hidden: true }, children);
  const root = h('div', { class: 'menu' }, button, panel);
  const toggle = () => {
    if (opened?.panel === panel) {
      closeMenu();
      return;
    }
    closeMenu();
    options.opening?.();
    panel.hidden = false;
    button.setAttribute('aria-expanded', 'true');
    opened = { root, button, panel };
    panel.querySelector('button, a, input')?.focus();
  };
  button.addEventListener('click', toggle);
  panel.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    if (event.target.matches('input:not([type=checkbox])')) return;
    const stops = [...panel.querySelectorAll('button, a, input')];
    const next = stops.indexOf(document.activeElement) + (event.key === 'ArrowDown' ? 1 : -1);
    stops[(next + stops.length) % stops.length]?.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  return { root, button, setLabel: (value) => { text.textContent = value; }, toggle };
}

/**
 * A dialog that is modal. Closing it gives the focus back to where it was.
 * @returns {HTMLDialogElement}
 */
export function dialog(title, children, label = title) {
  const element = h('dialog', { class: 'dialog', 'aria-label': label }, h('h2', null, title), children);
  element.addEventListener('click', (event) => { if (event.target === element) element.close(); });
  element.addEventListener('close', () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}
