// The keyboard. A view gets the keys that are not global by its method `key`.
import { closeMenu } from './menu.js';
import { back, fragment, go } from './router.js';

const VIEWS = { c: 'calls', n: 'connections', r: 'refusals', x: 'closes', o: 'control' };
const LIST_OF = { call: 'calls', connection: 'connections' };
const PATIENCE = 1200; // ms after `g`

export const HELP = [
  ['Everywhere', [
    [['j', '↓'], 'next row'], [['k', '↑'], 'previous row'], [['Page Up', 'Page Down'], 'a page up, down'],
    [['Home', 'End'], 'first, last row'],
    [['Enter'], 'open'], [['Esc'], 'close, back'], [['/'], 'filter'], [['s'], 'search'], [['t'], 'light or dark'], [['?'], 'these keys'],
  ]],
  ['Views', [
    [['g', 'c'], 'calls'], [['g', 'n'], 'connections'], [['g', 'r'], 'refusals'], [['g', 'x'], 'closes'], [['g', 'o'], 'control'],
  ]],
  ['Calls', [[['p'], 'pause or resume the list']]],
  ['A call', [
    [['1', '2', '3'], 'message, difference, raw'], [['c'], 'copy the message'], [['a'], 'clock or elapsed time'],
    [['x'], 'keep-alives'], [['e'], 'export'], [['l'], 'copy link'],
  ]],
];

const isField = (element) => element?.matches?.('input:not([type=checkbox]), select, textarea') ?? false;

export function keys(app) {
  let since = 0; // time of a `g`
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector('dialog[open]')) return;
    if (event.key === 'Escape') {
      if (closeMenu()) event.preventDefault();
      else if (isField(event.target)) {
        event.target.blur();
        (app.view?.list?.element ?? app.main).focus({ preventScroll: true });
      } else if (!app.view?.escape?.() && LIST_OF[app.view?.name]) back(LIST_OF[app.view.name]);
      else if (app.view?.name === 'search') back('calls');
      return;
    }
    if (isField(event.target)) {
      // From the filter into the list.
      if (event.key === 'ArrowDown' && event.target.matches('.filter-input')) {
        app.view?.list?.element.focus({ preventScroll: true });
        event.preventDefault();
      }
      return;
    }
    if (!app.view) return;
    if (event.timeStamp - since < PATIENCE && VIEWS[event.key]) {
      since = 0;
      if (event.key !== 'o' || app.status?.control) go(fragment(VIEWS[event.key]));
      event.preventDefault();
      return;
    }
    since = 0;
    const inPanel = event.target.closest('.panel');
    const isButton = event.target.matches('button, a, summary, [role=tab], input[type=checkbox]');
    if (event.key === 'g') since = event.timeStamp;
    else if (event.key === '?') app.help();
    else if (event.key === 't') app.toggleTheme();
    else if (event.key === 's') {
      app.search.focus();
      app.search.select();
    } else if (event.key === '/') {
      if (app.view.focusFilter) app.view.focusFilter();
      else {
        app.search.focus();
        app.search.select();
      }
    } else if (inPanel || (isButton && ['Enter', ' '].includes(event.key))) return;
    else if (!app.view.key?.(event)) return;
    event.preventDefault();
  });
}
