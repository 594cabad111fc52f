// Makes content of the network safe to look at.
//
// Everything shown comes from strangers. Text nodes keep it from being markup; what is left are
// invisible characters, and those that reorder their neighbours (a right-to-left override in a user
// name makes `exe.gnp` of `png.exe`). They are shown as ⟨U+202E⟩.

// Controls but tab and line feed, soft hyphen, bidi marks, zero-width characters, line and
// paragraph separators, Hangul fillers, byte order mark, interlinear marks, tags, lone surrogates.
const HIDDEN = new RegExp('[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f'
  + '\\u1160\\u17b4\\u17b5\\u180b-\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f'
  + '\\ufeff\\uffa0\\ufff0-\\ufffb]|[\\u{e0000}-\\u{e0fff}]'
  + '|[\\ud800-\\udbff](?![\\udc00-\\udfff])|(?<![\\ud800-\\udbff])[\\udc00-\\udfff]', 'gu');
const ON_ONE_LINE = /[\t\n]/g;
const PLAIN = /^[ -~]*$/; // what nearly all text is, and quick to find out

const name = (character) =>
  `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`;

/**
 * Text of one line, hidden characters and line ends written out.
 * @param {*} value any value; null and undefined are empty.
 * @param {number} [longest] characters that are kept; a list needs no more.
 */
export function visible(value, longest = 512) {
  let text = value == null ? '' : String(value);
  if (text.length > longest) text = `${text.slice(0, longest)}…`;
  return PLAIN.test(text) ? text : text.replace(HIDDEN, name).replace(ON_ONE_LINE, name);
}

/** Text of several lines: line feeds and tabs stay, CR before a line feed is dropped. */
export function visibleLines(value) {
  return String(value ?? '').replaceAll('\r\n', '\n').replace(HIDDEN, name);
}

/** Splits visible text so that what stands for a hidden character can be coloured. */
export function marked(text) {
  return text.split(/(⟨U\+[0-9A-F]{4,6}⟩)/);
}

// One formatter for all: building one costs more than its use.
const grouped = new Intl.NumberFormat('en');

export const count = (number) => grouped.format(number ?? 0);

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? '' : 's'}`;

const twoDigits = (number) => String(number).padStart(2, '0');

/** Clock time of a time in microseconds: 14:03:07.123. */
export function clock(at, { date = false, parts = 3 } = {}) {
  const time = new Date(at / 1000);
  const day = `${time.getFullYear()}-${twoDigits(time.getMonth() + 1)}-${twoDigits(time.getDate())}`;
  let text = `${twoDigits(time.getHours())}:${twoDigits(time.getMinutes())}:${twoDigits(time.getSeconds())}`;
  if (parts === 3) text += `.${String(time.getMilliseconds()).padStart(3, '0')}`;
  if (parts === 6) text += `.${String(Math.floor(at % 1e6)).padStart(6, '0')}`;
  return date ? `${day} ${text}` : text;
}

let midnight = 0; // start of today in microseconds, for a list asks for each of its rows

/** Time in a list: of today the clock, else with month and day. */
export function listTime(at, now) {
  if (!at) return '';
  if (now < midnight || now >= midnight + 86_400e6) midnight = new Date(now / 1000).setHours(0, 0, 0, 0) * 1000;
  if (at >= midnight && at < midnight + 86_400e6) return clock(at);
  const time = new Date(at / 1000);
  return `${twoDigits(time.getMonth() + 1)}-${twoDigits(time.getDate())} ${clock(at, { parts: 0 })}`;
}

/** A length of time for a list: 0:42, 12:07, 1:02:03; below 10 s with tenths or ms. */
export function duration(microseconds) {
  if (!(microseconds > 0)) return '';
  if (microseconds < 1e6) return `${Math.max(1, Math.round(microseconds / 1000))} ms`;
  if (microseconds < 1e7) return `${(microseconds / 1e6).toFixed(1)} s`;
  const seconds = Math.floor(microseconds / 1e6);
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours}:${twoDigits(minutes)}:${twoDigits(seconds % 60)}`;
  return `${minutes}:${twoDigits(seconds % 60)}`;
}

/** Time between two steps: 612 µs, 31.4 ms, 2.281 s, 3 min 2 s. */
export function gap(microseconds) {
  if (!microseconds) return '0';
  const size = Math.abs(microseconds);
  const sign = microseconds < 0 ? '−' : '';
  // The limits are those of the rounded numbers: 100 ms, not 100.0 ms, which has no room beside a narrow ladder.
  if (size < 999.5) return `${sign}${Math.round(size)} µs`;
  if (size < 99_950) return `${sign}${(size / 1000).toFixed(1)} ms`;
  if (size < 999_500) return `${sign}${Math.round(size / 1000)} ms`;
  if (size < 59.95e6) return `${sign}${(size / 1e6).toFixed(size < 9.995e6 ? 2 : 1)} s`;
  const seconds = Math.round(size / 1e6);
  if (seconds < 3600) return `${sign}${Math.floor(seconds / 60)}m ${twoDigits(seconds % 60)}s`;
  return `${sign}${Math.floor(seconds / 3600)}h ${twoDigits(Math.floor((seconds % 3600) / 60))}m`;
}

/** How long ago, in words. */
export function ago(at, now) {
  const seconds = Math.max(0, Math.round((now - at) / 1e6));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** A size: 812 B, 1.4 MB. Decimal, as --keep is read. */
export function bytes(size) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = size;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
