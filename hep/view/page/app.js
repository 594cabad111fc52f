// The frame of the page: views by fragment, header, status bar, keys, login, live stream.
import { get, Live, post, whenLoginIsNeeded } from './api.js';
import { clear, h, icon, iconButton, setIcon } from './dom.js';
import { keys } from './keys.js';
import { closeMenu } from './menu.js';
import { fragment, go, parse, replace } from './router.js';
import { bytes, clock, count, plural, visible } from './text.js';
import { CallsView } from './views/calls.js';
import { loginForm } from './views/login.js';

// Loaded when they are asked for, so that the list of calls is there sooner.
const VIEWS = {
  call: async () => (await import('./views/call.js')).CallView,
  connections: async () => (await import('./views/connections.js')).ConnectionsView,
  connection: async () => (await import('./views/connection.js')).ConnectionView,
  refusals: async () => (await import('./views/refusals.js')).RefusalsView,
  closes: async () => (await import('./views/closes.js')).ClosesView,
  search: async () => (await import('./views/search.js')).SearchView,
  control: async () => (await import('./views/control.js')).ControlView,
};
const TABS = [['calls', 'Calls', 'c'], ['connections', 'Connections', 'n'], ['refusals', 'Refusals', 'r'],
  ['closes', 'Closes', 'x'], ['control', 'Control', 'o']];
// Lists keep their rows and their place while one looks at a call.
const KEPT = new Set(['calls', 'connections']);
const TAB_OF = { call: 'calls', connection: 'connections', search: '' };

class App {
  status = null;
  live = new Live();
  view = null;
  linked = null;
  #offset = 0;
  #views = new Map();
  #asked = 0;

  /** Time of the service in microseconds; clocks of browsers are often wrong. */
  now() { return (Date.now() + this.#offset) * 1000; }

  async start() {
    this.main = document.getElementById('main');
    this.banner = document.getElementById('banner');
    this.#header();
    this.#footer();
    whenLoginIsNeeded(() => this.#login());
    this.live.addEventListener('status', ({ detail }) => this.#take(detail));
    this.live.addEventListener('link', ({ detail }) => this.#link(detail));
    window.addEventListener('hashchange', () => {
      // Marks a step made in this page, so that Esc may go back by the history.
      if (!window.history.state) window.history.replaceState({ inside: true }, '');
      this.route();
    });
    keys(this);
    this.route();
    try { this.#take(await get('status')); } catch (failure) {
      if (failure.status === 401) return;
    }
    this.live.start();
  }

  /** Shows what the fragment asks for. */
  async route() {
    if (!window.location.hash) replace(fragment('calls'));
    const route = parse(window.location.hash);
    const asked = this.#asked += 1;
    const name = route.view === 'calls' || VIEWS[route.view] ? route.view : 'calls';
    closeMenu();
    let view = this.view?.name === name ? this.view : this.#views.get(name);
    if (!view) {
      const Made = name === 'calls' ? CallsView : await VIEWS[name]();
      if (asked !== this.#asked) return; // another view was asked for meanwhile
      view = new Made(this);
      view.name = name;
      if (KEPT.has(name)) this.#views.set(name, view);
    }
    if (this.view !== view) {
      this.view?.hide?.();
      if (this.view && !KEPT.has(this.view.name)) this.view.close?.();
      this.view = view;
      this.main.replaceChildren(view.element);
    }
    const tab = TAB_OF[name] ?? name;
    for (const link of this.tabs) {
      if (link.dataset.view === tab) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    if (name !== 'search') this.search.value = '';
    else if (document.activeElement !== this.search) this.search.value = route.id;
    this.setTitle(view.title);
    await view.show(route);
  }

  setTitle(text) { document.title = text ? `${visible(text, 80)} · hep view` : 'hep view'; }

  #header() {
    this.tabs = TABS.map(([name, label, key]) => h('a', {
      href: fragment(name), 'data-view': name, title: `${label} (g ${key})`, hidden: name === 'control',
    }, label));
    this.search = h('input', {
      type: 'search', class: 'search-input', placeholder: 'User, number, address, Call-ID, connection, branch', spellcheck: 'false',
      autocomplete: 'off', 'aria-label': 'Search all calls and connections', enterkeyhint: 'search', maxlength: 1024,
    });
    const form = h('form', {
      class: 'search', role: 'search', 'aria-label': 'Search', onsubmit: (event) => {
        event.preventDefault();
        const text = this.search.value.trim();
        if (text) go(fragment('search', text));
        this.search.blur();
        this.main.focus();
      },
    }, icon('search'), this.search, h('kbd', { class: 'hint' }, 's'));
    this.linkState = h('span', { class: 'link-state', role: 'status' }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', { class: 'link-text' }, 'connecting'));
    this.themeButton = iconButton('sun', 'Change between light and dark (t)', () => this.toggleTheme());
    document.getElementById('top').append(
      h('a', { class: 'brand', href: '#/calls', 'aria-label': 'hep view, to the calls' },
        h('img', { src: '/static/favicon.svg', alt: '', width: 20, height: 20 }), h('span', null, 'hep view')),
      h('nav', { 'aria-label': 'Views' }, this.tabs), form,
      h('div', { class: 'tools' }, this.linkState, this.themeButton,
        h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Keys', title: 'Keys (?)', onclick: () => this.help() }, '?')));
    this.#showTheme();
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#showTheme());
  }

  get isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === 'dark' : window.matchMedia('(prefers-color-scheme: dark)').matches;
  }

  toggleTheme() {
    const theme = this.isDark ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    try { window.localStorage.setItem('hep-view-theme', theme); } catch { /* storage is off */ }
    this.#showTheme();
  }

  #showTheme() { setIcon(this.themeButton.firstChild, this.isDark ? 'sun' : 'moon'); }

  async help() { (await import('./views/help.js')).help(); }

  // Each value has its own place, wide enough for what may come, so that nothing moves.
  #footer() {
    const cell = (name, title) => h('span', { class: `status-${name}`, title });
    this.cells = {
      packets: cell('packets', 'Packets in the store'), rate: cell('rate', 'Packets per second over the last 10 s'),
      size: cell('size', 'Size of the store'), dropped: cell('dropped', 'Packets that came and were not stored'),
      open: cell('open', 'Calls and connections that are open'), listening: cell('listening', 'Where packets are received'),
      version: cell('version', 'Version'),
    };
    this.logout = h('button', { type: 'button', class: 'link', hidden: true, onclick: async () => {
      try { await post('logout'); } catch { /* the cookie is of no use then */ }
      window.location.reload(); // forgets all that was shown
    } }, 'Log out');
    document.getElementById('bottom').append(...Object.values(this.cells), this.logout);
  }

  #take(status) {
    this.status = status;
    this.#offset = status.now / 1000 - Date.now();
    const { store } = status;
    const c = this.cells;
    c.packets.textContent = `${count(store.packets)} packets`;
    c.rate.textContent = `${count(Math.round(status.rate))}/s`;
    c.size.textContent = bytes(store.bytes) + (store.keep_bytes ? ` of ${bytes(store.keep_bytes)}` : '');
    c.dropped.textContent = `${count(store.dropped)} dropped${status.bad ? `, ${count(status.bad)} not HEP` : ''}`;
    c.dropped.classList.toggle('bad', store.dropped > 0);
    c.open.textContent = `${plural(status.calls_open, 'call')}, ${plural(status.connections_open, 'connection')} open`;
    const reading = status.files.filter((file) => !file.done).map((file) => file.name);
    c.listening.textContent = visible(reading.length ? `reading ${reading.join(', ')}`
      : status.listening.map(({ transport, address }) => `${transport} ${address}`).join(' · '));
    c.version.textContent = visible(status.version, 40);
    this.tabs.at(-1).hidden = !status.control;
    this.logout.hidden = !status.login;
    this.#banner();
    this.view?.statusChanged?.(status);
  }

  #banner() {
    const problem = this.status?.store.problem;
    const files = this.status?.files.filter((file) => file.problem) ?? [];
    const text = problem
      ? `Storing stopped: ${problem}. ${count(this.status.store.dropped)} packets were not stored. Collecting goes on.`
      : files.map((file) => `${file.name}: ${file.problem}`).join(' · ');
    if (this.banner.textContent !== text) clear(this.banner, text && [icon('warn'), visible(text)]);
    this.banner.hidden = !text;
    this.banner.classList.toggle('bad', Boolean(problem));
  }

  #link(up) {
    if (up && this.linked === false) this.#again();
    if (!up && this.linked !== false) this.lostAt = Date.now();
    this.linked = up;
    this.linkState.className = `link-state ${up ? 'up' : 'down'}`;
    this.linkState.lastChild.textContent = up ? 'live' : 'reconnecting';
    this.linkState.title = up ? 'Changes are shown as they come'
      : `The connection to hep view was lost at ${clock(this.lostAt * 1000, { parts: 0 })}; the page reconnects by itself`;
  }

  // What came while there was no connection is asked for.
  async #again() {
    try { this.#take(await get('status')); } catch { return; }
    for (const view of new Set([this.view, ...this.#views.values()])) view?.again?.();
  }

  #login() {
    if (this.main.querySelector('.login')) return;
    this.live.stop();
    this.#link(false);
    this.linkState.lastChild.textContent = 'logged out';
    document.body.classList.add('logged-out');
    this.view?.hide?.();
    this.view = null;
    this.#asked += 1;
    this.setTitle('Log in');
    this.main.replaceChildren(loginForm(async (token) => {
      await post('login', { token });
      document.body.classList.remove('logged-out');
      this.linked = null;
      this.main.replaceChildren();
      for (const view of this.#views.values()) view.again();
      this.route();
      this.#take(await get('status'));
      this.live.start();
    }));
  }
}

new App().start();
