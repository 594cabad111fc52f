// The parts of the page that need no browser. PAGE is the folder of its modules.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { join } from 'node:path';

const load = (name) => import(join(process.env.PAGE, name));
// Modules of views only ask for these when they draw.
globalThis.document = { addEventListener() {} };
const { visible, visibleLines, gap, duration, bytes, listTime } = await load('text.js');
const { parse, fragment } = await load('router.js');
const { differences } = await load('diff.js');
const { rowsOf } = await load('views/ladder.js');
const { comparable } = await load('views/message.js');
const { timesOf } = await load('filters.js');

test('plain text stays as it is', () => {
  for (const text of ['', 'INVITE sip:bob@example.com', 'Zoë Müller', '日本語', '😀 ok', 'שלום']) assert.equal(visible(text), text);
});

test('characters that nobody sees are written out', () => {
  for (const code of [0, 7, 9, 0x0a, 0x0d, 0x1b, 0x7f, 0x85, 0xad, 0x61c, 0x180e, 0x200b, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066, 0x2069, 0xfeff, 0xfff9, 0xd800, 0xdfff, 0xe0041]) {
    const shown = visible(`a${String.fromCodePoint(code)}b`);
    assert.equal(shown, `a⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩b`);
  }
});

test('lines keep their line ends and tabs, and nothing else that is hidden', () => {
  assert.equal(visibleLines('a\r\nb\tc\rd\u202e'), 'a\nb\tc⟨U+000D⟩d⟨U+202E⟩');
});

test('long text is cut before it is looked through', () => {
  assert.equal(visible('A'.repeat(65_536), 10), `${'A'.repeat(10)}…`);
  // A pair that the cut halves is written out, not half a character.
  assert.equal(visible('😀', 1), '⟨U+D83D⟩…');
});

test('times between steps', () => {
  assert.deepEqual([0, 612, 31_402, 212_000, 2_281_000, 59_400_000, 182_000_000, 7_260_000_000, -1500].map(gap),
    ['0', '612 µs', '31.4 ms', '212 ms', '2.28 s', '59.4 s', '3m 02s', '2h 01m', '−1.5 ms']);
  assert.deepEqual([999.6, 99_949, 99_999, 999_499, 999_999, 9_999_999, 59_999_999].map(gap),
    ['1.0 ms', '99.9 ms', '100 ms', '999 ms', '1.00 s', '10.0 s', '1m 00s']);
});

test('lengths and sizes', () => {
  assert.deepEqual([0, -5, 400, 98_000, 5_100_000, 42_000_000, 3_723_000_000, 200_000_000_000].map(duration),
    ['', '', '1 ms', '98 ms', '5.1 s', '0:42', '1:02:03', '2 d 7 h']);
  assert.deepEqual([0, 999, 1000, 2_000_000_000].map(bytes), ['0 B', '999 B', '1.0 kB', '2.0 GB']);
});

test('a list shows the day of what is not of today', () => {
  const now = new Date(2026, 0, 2, 12).getTime() * 1000;
  assert.match(listTime(now - 3600e6, now), /^11:00:00\.000$/);
  assert.match(listTime(now - 24 * 3600e6, now), /^01-01 12:00:00$/);
});

test('a fragment says the same when it is read again', () => {
  for (const id of ['a@b', 'a/b?c#d%e&f', '<script>', 'ü\u202e \u0000', '%', '%E0%A4%A']) {
    const route = parse(fragment('call', id, [['m', 7]]));
    assert.deepEqual([route.view, route.id, route.parameters.get('m')], ['call', id, '7']);
  }
  assert.equal(parse('').view, 'calls');
  assert.equal(parse('#/call/%E0%A4%A').id, '%E0%A4%A');
  assert.doesNotThrow(() => fragment('call', '\ud800'));
});

test('a difference holds both texts', () => {
  const found = differences(['a', 'b', 'c', 'd'], ['a', 'c', 'x', 'd']);
  assert.deepEqual(found, [[' ', 'a'], ['-', 'b'], [' ', 'c'], ['+', 'x'], [' ', 'd']]);
  assert.deepEqual(differences([], ['a']), [['+', 'a']]);
  assert.deepEqual(differences(['a', 'a'], ['a']).filter(([sign]) => sign !== ' ').length, 1);
  const many = Array.from({ length: 50_000 }, (_, index) => `line ${index}`);
  const other = many.map((line) => `${line}!`);
  const started = Date.now();
  assert.equal(differences(many, other).length, 100_000);
  assert.ok(Date.now() - started < 5000);
});

const step = (source, destination, more = {}) => ({ source, destination, kind: 'sip', copy_of: null, retransmission_of: null, method: 'INVITE', status: 0, ...more });

test('copies on the other leg stand in the row of what they copy', () => {
  const steps = [step(0, 1), step(1, 2, { copy_of: 0 }), step(2, 3, { copy_of: 1 }), step(1, 0, { status: 100 }), step(3, 2, { status: 180 }), step(2, 1, { copy_of: 4, status: 180 })];
  assert.deepEqual(rowsOf(steps).map((row) => row.steps), [[0, 1, 2], [3], [4, 5]]);
});

test('a copy has a row of its own where arrows would cross or others came between', () => {
  assert.equal(rowsOf([step(0, 2), step(1, 2, { copy_of: 0 })]).length, 2);
  assert.equal(rowsOf([step(0, 1), step(0, 1, { kind: 'event' }), step(1, 2, { copy_of: 0 })]).length, 3);
});

test('a message is compared with what it copies, repeats or follows', () => {
  const steps = [step(0, 1), step(1, 2, { copy_of: 0 }), step(1, 0, { status: 200 }), step(0, 1), step(0, 1, { retransmission_of: 3 })];
  assert.deepEqual(comparable(steps, 0), []);
  assert.equal(comparable(steps, 1)[0].index, 0);
  assert.equal(comparable(steps, 2).length, 0);
  assert.equal(comparable(steps, 3)[0].index, 0);
  assert.equal(comparable(steps, 4)[0].index, 3);
});

test('quick ranges end now, absolute ones where they say, and nonsense is no time', () => {
  assert.deepEqual(timesOf({ last: '5m' }, 1e15), { since: 1e15 - 3e8, until: undefined });
  assert.deepEqual(timesOf({ since: '12', until: '34' }, 0), { since: 12, until: 34 });
  assert.deepEqual(timesOf({ last: 'x', since: '<b>' }, 0), { since: undefined, until: undefined });
});
