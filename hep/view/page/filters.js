// The filter bar of a list. Its state is an object of strings and lists, as in the URL.
import { data, debounced, h, icon, iconButton } from './dom.js';
import { closeMenu, menu } from './menu.js';
import { clock } from './text.js';

const RANGES = [
  ['5m', 'Last 5 minutes', 300], ['15m', 'Last 15 minutes', 900], ['1h', 'Last hour', 3600],
  ['6h', 'Last 6 hours', 21_600], ['24h', 'Last 24 hours', 86_400], ['7d', 'Last 7 days', 604_800],
  ['', 'All that is kept', 0],
];

/** Start and end of what a filter asks for, in microseconds; undefined where it is open. */
export function timesOf(filters, now) {
  const range = RANGES.find(([name]) => name && name === filters.last);
  if (range) return { since: Math.round(now - range[2] * 1e6), until: undefined };
  const number = (text) => (/^\d{1,17}$/.test(text ?? '') ? Number(text) : undefined);
  return { since: number(filters.since), until: number(filters.until) };
}

const localTime = (at) => {
  const [day, time] = clock(at, { date: true, parts: 0 }).split(' ');
  return `${day}T${time}`;
};

/**
 * Grafana's time picker in small: quick ranges and a time from and to.
 * @param {() => object} filters the state.
 * @param {(changes: object) => void} change sets last, since and until.
 */
export function timePicker(filters, change) {
  const from = h('input', { type: 'datetime-local', step: 1, 'aria-label': 'From' });
  const to = h('input', { type: 'datetime-local', step: 1, 'aria-label': 'To' });
  const choose = (changes) => {
    closeMenu();
    change({ last: '', since: '', until: '', ...changes });
  };
  const apply = () => {
    const at = (input) => (input.value ? String(new Date(input.value).getTime() * 1000) : '');
    choose({ since: at(from), until: at(to) });
  };
  const quick = RANGES.map(([name, label]) => h('button', {
    type: 'button', class: 'item', 'data-range': name, onclick: () => choose({ last: name }),
  }, label));
  const picker = menu('All', [
    h('div', { class: 'ranges' }, quick),
    h('form', { class: 'absolute', onsubmit: (event) => { event.preventDefault(); apply(); } },
      h('label', null, 'From', from), h('label', null, 'To', to),
      h('button', { type: 'submit', class: 'button primary' }, 'Apply')),
  ], {
    icon: 'clock',
    title: 'Time',
    opening: () => {
      const { since, until, last } = filters();
      from.value = since ? localTime(Number(since)) : '';
      to.value = until ? localTime(Number(until)) : '';
      for (const each of quick) each.setAttribute('aria-current', each.dataset.range === (last ?? '') && !since && !until);
    },
  });
  picker.button.setAttribute('aria-label', 'Time range');
  picker.refresh = () => {
    const { last, since, until } = filters();
    const short = (at) => (at ? clock(Number(at), { date: true, parts: 0 }).slice(5) : '…');
    const range = RANGES.find(([name]) => name && name === last);
    const text = range?.[1] ?? (since || until ? `${short(since)} to ${short(until)}` : 'All time');
    picker.setLabel(text);
    picker.button.setAttribute('aria-label', `Time range: ${text}`);
  };
  return picker;
}

/** Filters by time, by fields that one types, and by sets of toggles. */
export class FilterBar {
  /**
   * @param {object} options
   * @param {{name: string, label: string, hint: string}[]} options.fields
   * @param {{name: string, label: string, options: {value: string, label: string, icon?: string, title?: string}[]}[]} options.toggles
   * @param {(filters: object) => void} options.change called with the new state.
   */
  constructor({ fields, toggles, change }) {
    this.fields = fields;
    this.toggles = toggles;
    this.filters = {};
    this.change = change;
    this.picker = timePicker(() => this.filters, (changes) => this.set(changes));
    this.field = h('select', { 'aria-label': 'Field of the filter', onchange: () => this.#fieldChosen() },
      fields.map(({ name, label }) => h('option', { value: name }, label)));
    const typed = debounced(() => this.#typed(), 180);
    this.input = h('input', {
      type: 'text', class: 'filter-input', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off',
      'aria-label': 'Filter', oninput: typed,
      onkeydown: (event) => {
        if (event.key !== 'Enter') return;
        event.preventDefault();
        typed.cancel();
        this.#typed();
        this.#keep();
      },
    });
    this.chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'Filters that are set' });
    this.count = h('span', { class: 'count', 'aria-live': 'polite' });
    this.extra = h('div', { class: 'filter-extra' });
    this.groups = toggles.map((group) => this.#group(group));
    this.element = h('div', { class: 'filters', role: 'search', 'aria-label': 'Filters' },
      h('div', { class: 'filter-row' }, this.picker.root,
        h('div', { class: 'filter-box' }, this.field, this.input, h('kbd', { class: 'hint' }, '/')),
        this.chips, this.count, this.extra),
      h('div', { class: 'filter-row toggles' }, this.groups.map(({ root }) => root)));
    this.#fieldChosen(false);
  }

  /** Takes the state from the URL, without calling back. */
  read(parameters) {
    const filters = {};
    for (const name of ['last', 'since', 'until', ...this.fields.map((field) => field.name)]) {
      if (parameters.get(name)) filters[name] = parameters.get(name);
    }
    for (const { name } of this.toggles) {
      const values = parameters.getAll(name);
      if (values.length) filters[name] = values;
    }
    this.filters = filters;
    this.input.value = '';
    this.editing = null;
    this.refresh();
  }

  /** The state as pairs for the URL. */
  pairs() {
    return Object.entries(this.filters).flatMap(([name, value]) =>
      [value].flat().filter(Boolean).map((each) => [name, each]));
  }

  set(changes) {
    Object.assign(this.filters, changes);
    for (const [name, value] of Object.entries(this.filters)) {
      if (!value?.length) delete this.filters[name];
    }
    this.refresh();
    this.change(this.filters);
  }

  reset() {
    this.filters = {};
    this.input.value = '';
    this.editing = null;
    this.set({});
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  #group({ name, label, options }) {
    const buttons = options.map((option) => h('button', {
      type: 'button', class: `toggle tone-${option.tone ?? 'plain'}`, 'data-value': option.value,
      'aria-pressed': 'false', title: option.title,
      onclick: () => {
        const on = new Set(this.filters[name] ?? []);
        if (!on.delete(option.value)) on.add(option.value);
        this.set({ [name]: [...on] });
      },
    }, option.icon && icon(option.icon), option.label));
    return { name, buttons, root: h('div', { class: 'toggle-group', role: 'group', 'aria-label': label }, buttons) };
  }

  // `code:486` chooses the field by its name.
  #typed() {
    const [, prefix, rest] = /^(\w+):(.*)$/s.exec(this.input.value) ?? [];
    const field = this.fields.find(({ name, label }) => prefix && [name, label.toLowerCase()].includes(prefix.toLowerCase()));
    if (field && field.name !== this.field.value) {
      this.#keep(true);
      this.field.value = field.name;
      this.#fieldChosen(false);
      this.input.value = rest.trimStart();
    }
    this.editing = this.input.value.trim() ? this.field.value : this.editing;
    if (!this.editing && !this.filters[this.field.value]) return;
    if (this.editing) this.set({ [this.editing]: this.input.value.trim() });
    if (!this.input.value.trim()) this.editing = null;
  }

  #keep(quietly = false) {
    this.editing = null;
    if (!quietly) this.input.value = '';
    this.refresh();
  }

  #fieldChosen(focus = true) {
    const field = this.fields.find(({ name }) => name === this.field.value);
    this.input.placeholder = field.hint;
    if (focus) {
      if (this.editing && this.input.value.trim()) {
        this.set({ [this.editing]: '', [field.name]: this.input.value.trim() });
        this.editing = field.name;
      }
      this.focus();
      this.refresh();
    }
  }

  refresh() {
    this.picker.refresh();
    const set = this.fields.filter(({ name }) => this.filters[name] && name !== this.editing);
    this.chips.replaceChildren(...set.map(({ name, label }) => h('span', { class: 'chip' },
      h('span', { class: 'chip-name' }, label), data(this.filters[name], { longest: 60 }),
      iconButton('close', `Remove the filter ${label}`, () => this.set({ [name]: '' })))));
    for (const { name, buttons } of this.groups) {
      const on = new Set(this.filters[name] ?? []);
      for (const button of buttons) button.setAttribute('aria-pressed', on.has(button.dataset.value));
    }
  }
}
