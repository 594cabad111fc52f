// Drives the page of a real viewer: node view.mjs URL chromium|firefox PROGRAM SCENARIO.
// A line {"want": NAME} asks the test for something; its answer is a line of JSON on standard input.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { browsers } from './browsers.mjs';

const [, , url, name, program, scenario] = process.argv;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const page = await browsers[name](program);

const PATIENCE = 20_000;
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function want(what, having = null) {
  console.log(JSON.stringify({ want: what, having }));
  return JSON.parse((await answers.next()).value);
}

/** Waits until a function in the page returns what is true; returns that. */
async function until(what, argument, why = String(what)) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await page.evaluate(what, argument);
    if (value) return value;
    if (Date.now() > end) {
      const seen = await page.evaluate(() => `${window.location.hash}\n${document.body.innerText.slice(0, 3000)}`);
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
const click = async (selector) => {
  await shown(selector);
  await page.evaluate((asked) => [...document.querySelectorAll(asked)].find((each) => each.getClientRects().length).click(), selector);
};
const ask = (path) => page.evaluate(async (asked) => (await fetch(`/api/v1/${asked}`)).json(), path);
const at = (fragment) => page.evaluate((asked) => { window.location.hash = asked; }, fragment);
const callOf = (id) => `#/call/${encodeURIComponent(id)}`;

// What must never happen: script of a message that runs, a breach of the policy, an error, a request elsewhere.
const watch = () => page.evaluate(() => {
  window.watched = [];
  window.addEventListener('error', (event) => window.watched.push(String(event.message)));
  window.addEventListener('unhandledrejection', (event) => window.watched.push(String(event.reason)));
  document.addEventListener('securitypolicyviolation', (event) => window.watched.push(`${event.violatedDirective} ${event.blockedURI}`));
  for (const each of ['alert', 'confirm', 'prompt', 'open']) window[each] = (...values) => window.watched.push(`${each} ${values}`);
  const { error } = console;
  console.error = (...values) => {
    window.watched.push(values.join(' '));
    error(...values);
  };
});
const assertCalm = async () => {
  assert.deepEqual(await page.evaluate(() => window.watched), []);
  assert.equal(await page.evaluate(() => window.pwned ?? null), null, 'script of a message ran');
  assert.deepEqual(await page.evaluate(() => performance.getEntriesByType('resource').map((each) => each.name)
    .filter((each) => new URL(each).origin !== window.location.origin)), []);
  assert.deepEqual(page.problems, []);
};

async function open(fragment, wait) {
  await page.goto('about:blank');
  await page.goto(url + fragment);
  await watch();
  await shown(wait);
  await shown('.link-state.up');
}

const scenarios = {
  async demo() {
    await open('#/calls', '.list .row:not([hidden])');
    await until(() => document.querySelector('.list').getAttribute('aria-rowcount') === '2');
    const { connections } = await ask('connections');
    const lost = connections.find((each) => each.code === 1006);
    await at(callOf(lost.calls[0]));
    assert.match(await shown('.verdict'), /Registered for 600 s, then lost/);
    await says('closed 1006');
    await at('#/refusals');
    await says('no-subprotocol');
    await at('#/closes');
    await says('Abnormal Closure');
    // A phone comes, and its rows with it.
    await at('#/calls');
    await page.evaluate(() => { window.neverReloaded = true; });
    await want('phone');
    await until(() => document.querySelector('.list').getAttribute('aria-rowcount') === '3');
    await says('registered');
    await at('#/connections');
    await until(() => [...document.querySelectorAll('.connection-row .state')].some((each) => each.textContent.includes('open')));
    await assertCalm();
    // Tracing off: nothing comes; on: it comes.
    await at('#/control');
    await click('[data-key="switch ws"]');
    await until(() => document.querySelector('[data-key="switch ws"]').getAttribute('aria-checked') === 'false');
    await want('untraced');
    await click('[data-key="switch ws"]');
    await until(() => document.querySelector('[data-key="switch ws"]').getAttribute('aria-checked') === 'true');
    await want('traced');
    await at('#/calls');
    await until(() => [...document.querySelectorAll('.list .row:not([hidden])')].some((each) => each.textContent.includes('traced-one')));
    assert.ok(!await page.evaluate(() => document.body.innerText.includes('untraced-one')));
    // The page closes the phone's connection.
    await at('#/control');
    await click('[data-key^="close "]');
    await shown('dialog[open]');
    await page.evaluate(() => {
      document.querySelector('dialog [name=code]').value = '4001';
      document.querySelector('dialog [name=reason]').value = 'from the page';
    });
    await click('dialog .primary');
    assert.deepEqual(await want('closed'), { code: 4001, reason: 'from the page' });
    await until(() => !document.querySelector('[data-key^="close "]'));
    assert.ok(await page.evaluate(() => window.neverReloaded));
    await assertCalm();
  },

  async workers() {
    await open('#/control', '[role=switch]');
    const wanted = await want('phones');
    await until((ids) => ids.every((id) => document.querySelector(`[data-key="close ${id}"]`)), wanted.ids);
    await says('Open connections (12)');
    await assertCalm();
  },

  async relayed() {
    await open('#/calls', '.welcome');
    await want('call');
    await until(() => [...document.querySelectorAll('.list .row:not([hidden])')].some((each) => each.textContent.includes('BYE of the caller')));
    const { calls } = await ask('calls?method=INVITE');
    assert.equal(calls.length, 1);
    await at(callOf(calls[0].call_id));
    assert.match(await shown('.verdict'), /^Ended by BYE of the caller/);
    await until(() => document.querySelectorAll('.ladder .step').length > 10);
    const parties = await page.evaluate(() => [...document.querySelectorAll('.party')].map((each) => [
      each.querySelector('.party-name').textContent, each.querySelector('.party-role').textContent]));
    assert.deepEqual(parties.map(([, role]) => role).sort(), ['phone', 'phone', 'tracing server', 'upstream']);
    assert.deepEqual(parties.filter(([, role]) => role === 'phone').map(([who]) => who).sort(), ['alice', 'bob']);
    await click('.call-tools .menu .button');
    const links = await page.evaluate(() => [...document.querySelectorAll('.panel a')].map((link) => link.href));
    const files = {};
    for (const link of links) {
      files[new URL(link).searchParams.get('format')] = await page.evaluate(async (asked) => {
        const answer = await fetch(asked);
        if (!answer.headers.get('content-disposition')?.startsWith('attachment')) throw new Error(`${asked} opens in place`);
        return btoa(String.fromCharCode(...new Uint8Array(await answer.arrayBuffer())));
      }, link);
    }
    await assertCalm();
    const { path } = await want('html', files);
    await page.goto(pathToFileURL(path).href);
    await watch();
    await says('Ended by BYE of the caller');
    await says('INVITE');
    assert.deepEqual(await page.evaluate(() => window.watched), []);
    assert.deepEqual(page.problems, []);
  },

  async hostile() {
    await open('#/calls', '.welcome, .list');
    const { ids } = await want('attack');
    await until((most) => Number(document.querySelector('.list').getAttribute('aria-rowcount')) >= most, ids.length);
    await assertCalm();
    const { calls } = await ask('calls?limit=500');
    for (const id of ids) {
      assert.ok(calls.some((each) => each.call_id === id), `no call ${JSON.stringify(id)}`);
      await at(callOf(id));
      await until((wanted) => document.querySelector('.call-id')?.isConnected && decodeURIComponent(window.location.hash.slice(7)) === wanted, id);
      await shown('.ladder .step.sip');
      await until(() => {
        if (document.querySelector('.headers')?.getClientRects().length) return true;
        // The ladder may be drawn again between a look and a click.
        document.querySelector('.ladder .step.sip')?.dispatchEvent(new MouseEvent('click', { bubbles: true }));
        return false;
      }, null, 'headers');
      for (const tab of [1, 2]) await page.evaluate((number) => document.querySelectorAll('.tabs [role=tab]')[number]?.click(), tab);
      await assertCalm();
      // The address of the view opens the same call.
      await page.goto('about:blank');
      await page.goto(url + callOf(id));
      await watch();
      await shown('.ladder .step.sip');
      await assertCalm();
    }
    const { connections } = await ask('connections?limit=500');
    for (const each of connections) {
      await at(`#/connection/${encodeURIComponent(each.id)}`);
      await shown('.connection-view, .view');
      await pause(50);
    }
    for (const fragment of ['#/connections', '#/refusals', '#/closes', '#/control', `#/search/${encodeURIComponent('<script>')}`, '#/calls']) {
      await at(fragment);
      await pause(300);
      await assertCalm();
    }
    // No character that hides or turns others reaches the page.
    const odd = await page.evaluate(() => [...document.body.innerText].filter((each) => /[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/.test(each)).map((each) => each.codePointAt(0)));
    assert.deepEqual(odd, []);
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
