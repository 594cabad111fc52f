// The difference of two texts by lines.

const MOST_LINES = 600; // the table has lines × lines cells

/**
 * @param {string[]} before @param {string[]} after
 * @returns {[(' '|'-'|'+'), string][]} lines with what became of them.
 */
export function differences(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < before.length - start && end < after.length - start
    && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const a = before.slice(start, before.length - end);
  const b = after.slice(start, after.length - end);
  const same = (lines) => lines.map((line) => [' ', line]);
  return [...same(before.slice(0, start)), ...middle(a, b), ...same(before.slice(before.length - end))];
}

function middle(a, b) {
  if (a.length > MOST_LINES || b.length > MOST_LINES) {
    return [...a.map((line) => ['-', line]), ...b.map((line) => ['+', line])];
  }
  // lengths[i][j]: lines in common of a from i and b from j
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const result = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      result.push([' ', a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && lengths[i + 1][j] >= lengths[i][j + 1])) {
      result.push(['-', a[i]]);
      i += 1;
    } else {
      result.push(['+', b[j]]);
      j += 1;
    }
  }
  return result;
}
