// Drives the viewer's page: node view_page.mjs URL chromium|firefox PROGRAM SCENARIO [FOLDER].
// The scenario asserts; it prints what it measured. Screenshots go to FOLDER.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { browsers } from './browsers.mjs';

const [, , url, name, program, scenario, folder] = process.argv;
const page = await browsers[name](program);

const PATIENCE = 10_000;
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Waits until a function in the page returns what is true; returns that. */
async function until(what, argument, why = String(what)) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await page.evaluate(what, argument);
    if (value) return value;
    if (Date.now() > end) {
      if (folder) await page.screenshot(join(folder, `failed-${name}-${scenario}.png`));
      const seen = await page.evaluate(() => `${window.location.hash}\n${document.getElementById('main').innerText.slice(0, 1500)}`);
      assert.fail(`not in time: ${why} ${argument ?? ''}\n${seen}`);
    }
    await pause(30);
  }
}

const shown = (selector) => until((asked) => {
  const found = [...document.querySelectorAll(asked)].find((each) => each.getClientRects().length);
  return found ? found.innerText || found.textContent || ' ' : '';
}, selector, 'shown');
const says = (text) => until((asked) => document.body.innerText.includes(asked), text, 'the page says');
const hash = () => page.evaluate(() => window.location.hash);
const isAt = (start) => until((asked) => window.location.hash.startsWith(asked), start, 'the address begins with');
const click = async (selector) => {
  await shown(selector);
  await page.evaluate((asked) => [...document.querySelectorAll(asked)].find((each) => each.getClientRects().length).click(), selector);
};
const fake = (what) => page.evaluate(async (asked) => (await fetch(`/fake/${asked}`, { method: 'POST' })).json(), what);
const live = () => shown('.link-state.up');

// What must never happen: script of a message that runs, a breach of the policy, an error.
const watch = () => page.evaluate(() => {
  window.watched = [];
  window.addEventListener('error', (event) => window.watched.push(String(event.message)));
  window.addEventListener('unhandledrejection', (event) => window.watched.push(String(event.reason)));
  document.addEventListener('securitypolicyviolation', (event) => window.watched.push(`${event.violatedDirective} ${event.blockedURI}`));
  const { error } = console;
  console.error = (...values) => {
    window.watched.push(values.join(' '));
    error(...values);
  };
});
const assertCalm = async () => {
  assert.deepEqual(await page.evaluate(() => window.watched ?? []), []);
  assert.equal(await page.evaluate(() => window.pwned ?? null), null, 'script of a message ran');
  assert.deepEqual(page.problems, []);
};

async function open(fragment, wait = '.list .row:not([hidden])') {
  await page.goto('about:blank');
  await page.goto(url + fragment);
  await watch();
  if (wait) await shown(wait);
}

const VIEWS = {
  calls: ['#/calls', '.list .row:not([hidden]) .state'],
  call: ['#/call/call-two-legs%40192.0.2.17', '.ladder .step'],
  connections: ['#/connections', '.connection-row .state'],
  connection: ['#/connection/ws-9d04', '.ladder .event-bar'],
  refusals: ['#/refusals', 'a.row-link'],
  closes: ['#/closes', '.chart svg'],
  search: ['#/search/alice', '.found-row'],
  control: ['#/control', '[role=switch]'],
};

// Contrast as WCAG counts it, of each text that is shown with the ground behind it.
const lowContrast = () => page.evaluate(() => {
  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((each) => {
      const part = each / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (numbers(colour)[3] !== 0 && colour !== 'transparent') return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length || element.closest('svg, noscript')) continue;
    const style = getComputedStyle(element);
    if (style.visibility === 'hidden' || element.closest('.link-text')) continue;
    const [a, b] = [light(style.color), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(found)];
});

const scenarios = {
  async views() {
    for (const [width, height] of [[1280, 800], [390, 844]]) {
      await page.size(width, height);
      for (const scheme of ['light', 'dark']) {
        await page.scheme(scheme);
        for (const [view, [fragment, wait]] of Object.entries(VIEWS)) {
          await open(fragment, wait);
          await live();
          assert.equal(await page.evaluate(() => window.innerWidth), width);
          const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          assert.ok(over <= 0, `${view} is ${over} pixels too wide at ${width}`);
          const dark = await page.evaluate(() => Number(getComputedStyle(document.body).backgroundColor.match(/\d+/)[0]) < 80);
          assert.equal(dark, scheme === 'dark', `${view} is in the wrong theme`);
          assert.deepEqual(await lowContrast(), [], `${view}, ${scheme}: contrast`);
          const unnamed = await page.evaluate(() => [...document.querySelectorAll('button, a, input, select')].filter((each) =>
            each.getClientRects().length && !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length || each.title)).map((each) => each.outerHTML));
          assert.deepEqual(unnamed, [], `${view}: elements without a name`);
          await assertCalm();
          if (folder) await page.screenshot(join(folder, `${view}-${width}-${scheme}-${name}.png`));
        }
        if (folder) {
          await open('#/call/call-two-legs%40192.0.2.17', '.ladder .step');
          await page.press('Enter');
          await shown('.headers');
          await page.screenshot(join(folder, `message-${width}-${scheme}-${name}.png`));
        }
      }
    }
  },

  async keyboard() {
    await open('');
    await live();
    const selected = () => page.evaluate(() => Number(document.querySelector('.list [aria-selected=true]')?.getAttribute('aria-rowindex') ?? 0));
    await page.press('j', 'j', 'j', 'k');
    assert.equal(await selected(), 2);
    await page.press('ArrowDown', 'ArrowDown', 'ArrowUp');
    assert.equal(await selected(), 3);
    assert.ok(await page.evaluate(() => {
      const active = document.activeElement.getAttribute('aria-activedescendant');
      return document.getElementById(active)?.getAttribute('aria-selected') === 'true';
    }), 'the list names its active row');
    await page.press('Enter');
    await isAt('#/call/');
    await shown('.ladder .step');
    await page.press('Escape');
    await isAt('#/calls');
    await shown('.list .row:not([hidden])');
    assert.equal(await selected(), 3, 'the row is still selected');

    await page.evaluate(() => { window.location.hash = '#/call/call-two-legs%40192.0.2.17'; });
    await says('Ended by BYE of the callee');
    await page.press('Home', 'Enter');
    await shown('.headers');
    const first = await hash();
    assert.match(first, /\?m=\d+$/);
    await page.press('j');
    await until((before) => window.location.hash !== before, first);
    await page.press('2');
    await shown('.diff .added');
    await page.press('3');
    assert.match(await shown('.hex'), /^00000 {2}49 4e 56 49/);
    await page.press('1');
    await shown('.headers');
    await page.press('Escape');
    await until(() => document.querySelector('.pane').hidden);
    assert.ok(!(await hash()).includes('m='));
    await page.press('a');
    await until(() => document.querySelector('.times-head').textContent.includes('Time'));
    await page.press('e');
    await shown('.panel a[data-format=pcap]');
    await page.press('Escape');
    await until(() => !document.querySelector('.panel:not([hidden])'));
    await isAt('#/call/');

    for (const [key, view] of [['n', 'connections'], ['r', 'refusals'], ['x', 'closes'], ['o', 'control'], ['c', 'calls']]) {
      await page.press('g', key);
      await isAt(`#/${view}`);
      await shown('main > .view');
    }
    await shown('.list .row:not([hidden])');
    await page.press('/');
    await page.type('alice');
    await isAt('#/calls?user=alice');
    await page.press('Enter');
    await shown('.chip');
    await page.press('Escape');
    await until(() => document.activeElement.matches('.list'));
    await page.press('?');
    await shown('dialog[open]');
    await page.press('Escape');
    await until(() => !document.querySelector('dialog[open]'));
    await page.press('s');
    await page.type('ws-71c2');
    await page.press('Enter');
    await isAt('#/connection/ws-71c2');

    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    await page.press('t');
    const chosen = await theme();
    assert.ok(['light', 'dark'].includes(chosen));
    await page.reload();
    await shown('.ladder .step');
    assert.equal(await theme(), chosen, 'the theme is kept');
    // Tab shows where it is.
    await page.evaluate(() => document.querySelector('.brand').focus());
    await page.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.view), 'calls');
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
    await page.evaluate(() => localStorage.clear());
  },

  async hostile() {
    await open('#/calls');
    const id = await page.evaluate(async () => (await (await fetch('/api/v1/calls?limit=1000')).json()).calls.find((row) => row.call_id.startsWith('evil')).call_id);
    for (const width of [1280, 390]) {
      await page.size(width, 800);
      await page.evaluate((asked) => { window.location.hash = `#/call/${encodeURIComponent(asked)}`; }, id);
      await says('Rejected: <script>');
      await page.press('Home', 'Enter');
      await shown('.headers');
      await says('⟨U+202E⟩');
      await says('⟨U+001B⟩');
      await says('⟨U+2028⟩');
      const length = () => page.evaluate(() => document.querySelector('.headers').textContent.length);
      const before = await length();
      assert.ok(before < 20_000, `a long header is folded, not ${before} characters`);
      await click('.headers .more');
      await until(() => document.querySelector('.headers').textContent.length > 65_000);
      for (const key of ['2', '3', '1', 'j', 'j', '2', '3', '1']) {
        await page.press(key);
        await pause(100);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'no overflow');
      for (const fragment of ['#/connection/ws-evil', '#/connections', '#/search/%3Cscript%3Ewindow.pwned%3D1%3C%2Fscript%3E', '#/calls?user=%3Cscript%3E', '#/call/%E0%A4%A', '#/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E']) {
        await page.evaluate((asked) => { window.location.hash = asked; }, fragment);
        await pause(250);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `no overflow in ${fragment}`);
      }
      await page.evaluate(() => { window.location.hash = '#/calls?user=%3Cscript%3E'; });
      await until(() => [...document.querySelectorAll('.list .row:not([hidden])')].some((row) => row.textContent.includes('<script>window.pwned=1</script>') && row.textContent.includes('⟨U+202E⟩')));
    }
    // No raw control or bidi character reaches a text node, and no element of a message exists.
    assert.equal(await page.evaluate(() => /[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069\u2028]/.test(document.body.textContent)), false);
    assert.equal(await page.evaluate(() => document.querySelectorAll('main script, main img[src=x]').length), 0);
    // The one answer that is no 200 is that of the Call-ID which there is not.
    page.problems.splice(0, Infinity, ...page.problems.filter((text) => !text.includes('404')));
    await assertCalm();
  },

  async many() {
    await open('#/calls?options=1');
    const took = await page.evaluate(async () => {
      const list = document.querySelector('.list');
      const slow = [];
      let before = performance.now();
      for (let step = 0; step < 2000 && list.scrollTop + list.clientHeight < list.scrollHeight - 1; step += 1) {
        list.scrollTop += 600;
        await new Promise((resolve) => { requestAnimationFrame(resolve); });
        const now = performance.now();
        if (now - before > 50) slow.push(Math.round(now - before));
        before = now;
        // Further rows come from the service.
        for (let tries = 0; tries < 100 && list.scrollTop + list.clientHeight >= list.scrollHeight - 1 && Number(list.getAttribute('aria-rowcount')) < 10_000; tries += 1) {
          await new Promise((resolve) => { setTimeout(resolve, 50); });
          before = performance.now();
        }
      }
      return { rows: Number(list.getAttribute('aria-rowcount')), slow: slow.length, elements: document.querySelectorAll('*').length };
    });
    console.log(JSON.stringify(took));
    assert.equal(took.rows, 10_000);
    assert.ok(took.elements < 1500, `${took.elements} elements for 10,000 rows`);
    await page.press('End');
    await until(() => document.querySelector('.list [aria-selected=true]')?.getAttribute('aria-rowindex') === '10000');
    await page.press('Home');
    await until(() => document.querySelector('.list').scrollTop === 0);
    await assertCalm();
  },

  async live() {
    await open('#/calls');
    await live();
    const top = () => page.evaluate(() => document.querySelector('.list .row[aria-rowindex="1"]')?.textContent ?? '');
    const { first } = await fake('add?user=newcomer');
    await until(() => document.querySelector('.list .row[aria-rowindex="1"]').textContent.includes('newcomer'));
    // A list that is read stays where it is.
    await page.press('End', 'PageUp');
    const where = () => page.evaluate(() => {
      const row = document.querySelector('.list [aria-selected=true]');
      return `${row.getAttribute('aria-label')} at ${Math.round(row.getBoundingClientRect().top)}`;
    });
    await pause(200);
    const place = await where();
    await fake('add?count=3');
    assert.match(await shown('.pill'), /^3 new/);
    assert.equal(await where(), place, 'the row that is read stays where it is');
    await click('.pill');
    await until(() => document.querySelector('.list').scrollTop === 0 && document.querySelector('.pill').hidden);
    // Paused, nothing moves; resumed, all is there.
    await page.press('p');
    const before = await top();
    await fake('add?user=later');
    assert.match(await shown('.pill'), /1 changed while paused/);
    assert.equal(await top(), before);
    await page.press('p');
    await until(() => document.querySelector('.list .row[aria-rowindex="1"]').textContent.includes('later'));
    // A filter holds for what comes.
    await page.evaluate(() => { window.location.hash = '#/calls?user=wanted'; });
    await says('No call matches');
    await fake('add?user=unwanted-but-not-this');
    await fake('add?user=other');
    await until(() => document.querySelector('.list').getAttribute('aria-rowcount') === '1');
    // An open call follows its row.
    await page.evaluate((id) => { window.location.hash = `#/call/${encodeURIComponent(id)}`; }, first);
    await shown('.verdict');
    await fake(`end?id=${encodeURIComponent(first)}`);
    await says('Changed while it was open.');
    // It follows also while changes come faster than it draws.
    await fake(`busy?id=${encodeURIComponent(first)}`);
    const messages = () => Number(/(\d+) messages?$/.exec(document.querySelector('.call-facts').textContent)[1]);
    const had = await page.evaluate(messages);
    await until((before) => Number(/(\d+) messages?$/.exec(document.querySelector('.call-facts').textContent)[1]) > before + 8, had);
    // The stream breaks and comes back.
    await fake('drop');
    await shown('.link-state.down');
    await live();
    await fake('problem?text=disk%20full');
    assert.match(await shown('#banner'), /Storing stopped: disk full/);
    await fake('problem?text=');
    await until(() => document.getElementById('banner').hidden);
  },

  async login() {
    await open('#/calls', '.login');
    await page.type('wrong');
    await page.press('Enter');
    await says('the token is wrong');
    await page.type('secret');
    await page.press('Enter');
    await shown('.list .row:not([hidden])');
    await live();
    assert.ok(!(await hash()).includes('secret'));
    assert.equal(await page.evaluate(() => document.cookie), '', 'scripts cannot read the cookie');
  },

  async stopped() {
    await open('#/calls', '.welcome');
    assert.match(await shown('#banner'), /Storing stopped: disk full\. 1,234 packets were not stored/);
    await says('sipws run --trace-destination 127.0.0.1:9060');
    await says('127.0.0.1:9060');
    assert.match(await shown('.status-dropped'), /1,234 dropped/);
    for (const [view, text] of [['connections', 'No connection yet'], ['refusals', 'No handshake was refused'], ['closes', 'No connection has closed'], ['search/nobody', 'Nothing found']]) {
      await page.evaluate((asked) => { window.location.hash = `#/${asked}`; }, view);
      await says(text);
    }
    assert.ok(await page.evaluate(() => document.querySelector('[data-view=control]').hidden));
    await assertCalm();
  },

  async control() {
    await open('#/control', '[role=switch]');
    await click('[data-key="switch wss"]');
    await until(() => document.querySelector('[data-key="switch wss"]').getAttribute('aria-checked') === 'false');
    await says('queue full: 311');
    await click('[data-key="close ws-71c2"]');
    await shown('dialog[open]');
    assert.deepEqual(await fake('closed'), [], 'it asks first');
    await page.evaluate(() => {
      document.querySelector('dialog [name=code]').value = '4001';
      document.querySelector('dialog [name=reason]').value = 'tested';
    });
    await click('dialog .primary');
    await until(() => !document.querySelector('[data-key="close ws-71c2"]'));
    assert.deepEqual(await fake('closed'), [{ id: 'ws-71c2', code: 4001, reason: 'tested' }]);
    await fake('unreachable');
    await says('It cannot be reached: connection refused');
    await assertCalm();
  },

  async filters() {
    await open('#/calls?code=486&last=24h&outcome=rejected');
    await until(() => [...document.querySelectorAll('.list .row:not([hidden])')].every((row) => row.textContent.includes('486')));
    assert.match(await shown('.chip'), /486/);
    assert.match(await shown('.filters .menu .button'), /Last 24 hours/);
    assert.equal(await page.evaluate(() => document.querySelector('[data-value=rejected]').getAttribute('aria-pressed')), 'true');
    await click('.chip button');
    await until(() => !window.location.hash.includes('code'));
    await click('.filters .menu .button');
    await click('[data-range="1h"]');
    await isAt('#/calls?last=1h');
    await click('[data-value=rejected]');
    await until(() => window.location.hash === '#/calls?last=1h');
    // OPTIONS are hidden until they are asked for.
    await open('#/calls?method=OPTIONS', '.empty-small');
    await click('.toggles [data-value="1"]');
    await isAt('#/calls?method=OPTIONS&options=1');
    await until(() => document.querySelector('.list .row:not([hidden]) .c-method')?.textContent === 'OPTIONS');
    // The words before a colon choose the field.
    await open('#/calls');
    await page.press('/');
    await page.type('code:4xx');
    await isAt('#/calls?code=4xx');
    await until(() => [...document.querySelectorAll('.list .row:not([hidden]) .c-code')].every((cell) => cell.textContent.startsWith('4')));
    // A search: all of a user, and a single exact hit that opens itself.
    await open('#/search/bob', '.found-row');
    assert.match(await shown('.why'), /user/);
    await page.evaluate(() => { window.location.hash = '#/search/call-busy%40192.0.2.17'; });
    await isAt('#/call/call-busy%40192.0.2.17');
    await says('Rejected by the upstream: 486 Busy Here.');
    // What leads on.
    await click('.call-tools .menu .button');
    await click('.panel input[type=checkbox]');
    const links = await page.evaluate(() => [...document.querySelectorAll('.panel a')].map((link) => link.getAttribute('href')));
    assert.deepEqual(links, ['pcap', 'text', 'json', 'mermaid', 'html'].map((format) => `/api/v1/call/export?id=call-busy%40192.0.2.17&format=${format}&anonymous=1`));
    await page.press('Escape');
    await click('.badge[href="#/connection/ws-71c2"]');
    await says('Other leg');
    await click('.badge[href^="#/call/call-two-legs"]');
    await says('Ended by BYE of the callee');
    await click('.badge[href^="#/call/call-lost"]');
    await says('No answer: the phone');
    await page.evaluate(() => { window.location.hash = '#/refusals'; });
    await click('a.row-link');
    await isAt('#/connections?state=refused&state=failed&text=');
    await shown('.connection-row .state');
    await page.evaluate(() => { window.location.hash = '#/closes'; });
    await shown('.chart svg');
    await page.evaluate(() => document.querySelector('.chart').focus());
    await page.press('ArrowLeft');
    assert.match(await shown('.legend-time'), /\d\d:\d\d:\d\d/);
    await says('Abnormal Closure');
    await page.evaluate(() => { window.location.hash = '#/call/there-is-none'; });
    await says('no call has this Call-ID');
    page.problems.splice(0, Infinity, ...page.problems.filter((text) => !text.includes('404')));
    await assertCalm();
  },
};

try {
  await page.size(1280, 800);
  await scenarios[scenario]();
  console.log(JSON.stringify({ done: scenario }));
} finally {
  await page.close();
}
process.exit(0);
