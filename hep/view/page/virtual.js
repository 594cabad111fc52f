// A list of any length with the elements of one screen. Elements are used again while scrolling,
// and each has its place by a transform, so that nothing is laid out again.

import { whenResized } from './dom.js';

const BEYOND = 6; // rows drawn above and below the screen, so that a scroll step finds them there

/**
 * A list that one row is selected in. The focus stays on the list itself (aria-activedescendant),
 * for the element of a row serves another row after a scroll.
 */
export class VirtualList {
  /**
   * @param {object} options
   * @param {string} options.label what the list is, for screen readers.
   * @param {number} options.columns its columns.
   * @param {() => HTMLElement} options.create builds an empty row.
   * @param {(element: HTMLElement, item: object) => void} options.fill writes an item into a row.
   * @param {(item: object) => string} options.key what an item is recognised by.
   * @param {(item: object) => void} options.open Enter, or a click.
   * @param {() => void} [options.nearEnd] the end is about to be seen.
   * @param {() => void} [options.scrolled] after each scroll.
   */
  constructor(options) {
    this.options = options;
    this.items = [];
    this.selected = null;
    this.total = 0;
    this.#name = `list${VirtualList.#lists += 1}`;
    this.space = document.createElement('div');
    this.space.className = 'list-space';
    this.space.setAttribute('role', 'presentation');
    this.element = document.createElement('div');
    this.element.className = 'list';
    this.element.tabIndex = 0;
    for (const [name, value] of Object.entries({
      role: 'grid', 'aria-label': options.label, 'aria-colcount': options.columns,
    })) this.element.setAttribute(name, value);
    this.element.append(this.space);
    this.element.addEventListener('scroll', () => this.#later(), { passive: true });
    this.element.addEventListener('click', (event) => this.#clicked(event));
    this.element.addEventListener('focus', () => { if (this.selected == null) this.select(0, false); });
    this.observer = whenResized(this.element, () => this.#measure());
  }

  static #lists = 0;
  #name;
  #rows = []; // pool of elements; a row of the list is drawn by element number % length
  #frame = 0;
  #height = 30;
  #screen = 0;
  #top = 0; // scrollTop as it was last seen

  /** Replaces or changes the items; the selected one and the place of the scroll stay. */
  update(items, { added = 0 } = {}) {
    const top = this.element.scrollTop;
    this.items = items;
    this.#size();
    // Rows that came above what is read must not push it away.
    if (added && top > 0) this.element.scrollTop = top + added * this.#height;
    this.draw(true);
  }

  // Asking the element after rows were written would lay them out at once.
  get atTop() { return this.#top < this.#height; }

  get isScrolled() { return this.#top > 0; }

  /** The item at the upper edge. */
  get topItem() { return this.items[Math.floor(this.#top / this.#height)]; }

  get index() {
    return this.selected == null ? -1 : this.items.findIndex((item) => this.options.key(item) === this.selected);
  }

  get current() { return this.items[this.index]; }

  select(index, show = true) {
    if (!this.items.length) return;
    const to = Math.max(0, Math.min(this.items.length - 1, index));
    this.selected = this.options.key(this.items[to]);
    if (show) this.#show(to);
    this.draw(true);
  }

  /** Moves the selection; returns whether the key was one of the list's. */
  key(event) {
    const page = Math.max(1, Math.floor(this.#screen / this.#height) - 1);
    const from = this.index;
    const to = {
      ArrowDown: from + 1, j: from + 1, ArrowUp: from - 1, k: from - 1, PageDown: from + page,
      PageUp: from - page, Home: 0, End: this.items.length - 1,
    }[event.key];
    if (to !== undefined) this.select(Math.max(0, to));
    else if (event.key === 'Enter' && this.current) this.options.open(this.current);
    else return false;
    return true;
  }

  toTop() {
    this.element.scrollTop = 0;
    this.draw(true);
  }

  #show(index) {
    const top = index * this.#height;
    const { scrollTop } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.#height > scrollTop + this.#screen) this.element.scrollTop = top + this.#height - this.#screen;
  }

  #clicked(event) {
    const row = event.target.closest('[role=row]');
    // Links open in tabs of their own, and text can be marked.
    if (!row || event.target.closest('a') || String(window.getSelection())) return;
    this.select(Number(row.getAttribute('aria-rowindex')) - 1, false);
    this.options.open(this.current);
  }

  #measure() {
    const style = getComputedStyle(this.element);
    const height = parseFloat(style.getPropertyValue('--row')) || 30;
    if (height !== this.#height) {
      // The same row stays on top in a window that became narrow.
      const first = this.element.scrollTop / this.#height;
      this.#height = height;
      this.#size();
      this.element.scrollTop = first * height;
    }
    this.#screen = this.element.clientHeight;
    // The head above the list leaves as much room for the scroll bar.
    this.element.closest('.list-view')?.style.setProperty('--scrollbar', `${this.element.offsetWidth - this.element.clientWidth}px`);
    this.draw(true);
  }

  #size() {
    this.space.style.height = `${this.items.length * this.#height}px`;
    this.element.setAttribute('aria-rowcount', this.items.length);
  }

  #later() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.draw(false);
      this.options.scrolled?.();
    });
  }

  /** Draws the rows of the screen. @param {boolean} all also those that show their item already. */
  draw(all) {
    if (!this.#screen) {
      // It was just put into the page, or is not in it.
      if (this.element.clientHeight) this.#measure();
      return;
    }
    this.#top = this.element.scrollTop;
    const first = Math.max(0, Math.floor(this.#top / this.#height) - BEYOND);
    const wanted = Math.ceil(this.#screen / this.#height) + 2 * BEYOND;
    while (this.#rows.length < wanted) this.#create();
    const length = this.#rows.length;
    let active = '';
    for (let number = first; number < first + length; number += 1) {
      const row = this.#rows[number % length];
      const item = this.items[number];
      if (!item) {
        if (row.number !== -1) row.element.hidden = true;
        row.number = -1;
        continue;
      }
      if (all || row.number !== number || row.item !== item) this.#fill(row, number, item);
      if (this.options.key(item) === this.selected) active = row.element.id;
    }
    if (active) this.element.setAttribute('aria-activedescendant', active);
    else this.element.removeAttribute('aria-activedescendant');
    if (first + wanted > this.items.length - 200) this.options.nearEnd?.();
  }

  #create() {
    const element = this.options.create();
    element.id = `${this.#name}-${this.#rows.length}`;
    element.setAttribute('role', 'row');
    element.hidden = true;
    this.space.append(element);
    this.#rows.push({ element, number: -1, item: null });
    for (const row of this.#rows) row.number = -1;
  }

  #fill(row, number, item) {
    const { element } = row;
    if (row.number !== number) {
      element.style.transform = `translateY(${number * this.#height}px)`;
      element.setAttribute('aria-rowindex', number + 1);
    }
    element.hidden = false;
    const selected = this.options.key(item) === this.selected;
    element.setAttribute('aria-selected', selected);
    this.options.fill(element, item);
    row.number = number;
    row.item = item;
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }
}
