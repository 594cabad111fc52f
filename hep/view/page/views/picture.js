// The ladder and the message beside it, for a call and for a connection.
import { h } from '../dom.js';
import { LadderPicture } from './ladder.js';
import { MessagePane } from './message.js';

export class PicturePart {
  /** @param {(record: number|null) => void} opened the packet whose message is open, for the URL. */
  constructor(opened) {
    this.opened = opened;
    this.ladder = new LadderPicture((index) => this.open(index));
    // With the pane open, moving shows the next message.
    this.ladder.onmove = (index) => { if (this.pane.isOpen) this.open(index); };
    this.pane = new MessagePane(() => this.closePane());
    this.element = h('div', { class: 'split' }, this.ladder.element, this.pane.element);
  }

  /** Shows a picture; a message that is open stays open. */
  show(view, record = null) {
    this.steps = view.steps;
    const index = record == null ? -1 : view.steps.findIndex((step) => step.record === record);
    if (index >= 0) this.ladder.cursor = index;
    this.ladder.show(view);
    if (index < 0) this.closePane(false);
    else if (this.pane.record === record) {
      // It is being read: its place and its tab stay.
      this.pane.follow(view.steps, index);
      this.ladder.chosen = index;
      this.ladder.mark();
    } else this.open(index, false);
  }

  open(index, notify = true) {
    this.ladder.cursor = index;
    this.ladder.chosen = index;
    this.pane.show(this.steps, index);
    this.element.classList.add('with-pane');
    if (notify) this.opened(this.steps[index].record);
    this.ladder.mark();
  }

  closePane(notify = true) {
    this.pane.hide();
    this.element.classList.remove('with-pane');
    this.ladder.unchoose();
    if (!notify) return;
    this.opened(null);
    this.ladder.element.focus({ preventScroll: true });
  }

  escape() {
    if (!this.pane.isOpen) return false;
    this.closePane();
    return true;
  }

  key(event) {
    // Arrows scroll the message while the focus is in it.
    if (this.pane.element.contains(document.activeElement) && !['j', 'k'].includes(event.key) && /^(Arrow|Page|Home|End)/.test(event.key)) return false;
    if (this.pane.isOpen && this.pane.key(event)) return true;
    return this.steps?.length > 0 && this.ladder.key(event);
  }

  close() { this.ladder.close(); }
}

