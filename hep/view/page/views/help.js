// The keys.
import { h } from '../dom.js';
import { HELP } from '../keys.js';
import { dialog } from '../menu.js';

export function help() {
  const close = h('button', { type: 'button', class: 'button primary', autofocus: true }, 'Close');
  const element = dialog('Keys', [
    h('div', { class: 'keys' }, HELP.map(([title, rows]) => h('section', null, h('h3', null, title),
      h('dl', null, rows.map(([names, what]) => [
        h('dt', null, names.map((name) => h('kbd', null, name))), h('dd', null, what)]))))),
    h('div', { class: 'dialog-foot' }, close)]);
  close.addEventListener('click', () => element.close());
}
