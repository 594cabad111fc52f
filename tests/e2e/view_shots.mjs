// Pictures of the viewer for docs/: node view_shots.mjs URL CHROMIUM FOLDER
import { join } from 'node:path';
import { browsers } from './browsers.mjs';

const [, , url, program, folder] = process.argv;
const page = await browsers.chromium(program);
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function shown(selector) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await page.evaluate((asked) => [...document.querySelectorAll(asked)].some((each) => each.getClientRects().length), selector)) return;
    await pause(50);
  }
  throw new Error(`${selector} is not shown`);
}

async function shot(name, fragment, wait, { width = 1280, height = 720, scheme = 'light', keys = [], then } = {}) {
  await page.size(width, height);
  await page.scheme(scheme);
  await page.goto('about:blank');
  await page.goto(url + fragment);
  await shown(wait);
  await shown('.link-state.up');
  await page.press(...keys);
  if (then) await shown(then);
  // What moves has come to rest: colours of a change, the bar of the stream.
  await pause(1500);
  await page.screenshot(join(folder, `${name}.png`));
}

try {
  await page.goto(url);
  const { calls } = await page.evaluate(async () => (await fetch('/api/v1/calls?limit=100')).json());
  // The rate of the last ten seconds would differ from picture to picture.
  for (let rate = 1; rate; await pause(500)) rate = await page.evaluate(async () => (await (await fetch('/api/v1/status')).json()).rate);
  const call = (wanted) => `#/call/${encodeURIComponent(calls.find(wanted).call_id)}`;
  const relayed = call((each) => each.outcome === 'ok' && each.user_agent.startsWith('SIP.js') && each.connections.length === 4);
  const lost = call((each) => each.outcome === 'lost' && each.connections.length > 3);
  await shot('view-calls', '#/calls', '.list .row:not([hidden])');
  await shot('view-call', relayed, '.ladder .step', { keys: ['j', 'j', 'j', 'j', 'Enter'], then: '.headers' });
  await shot('view-connections', '#/connections?state=closed&state=refused', '.connection-row .state');
  await shot('view-closes', '#/closes', '.chart svg');
  await shot('view-dark', lost, '.ladder .step', { scheme: 'dark' });
  await shot('view-phone', '#/calls', '.list .row:not([hidden])', { width: 390, height: 780 });
  if (page.problems.length) throw new Error(page.problems.join('\n'));
} finally {
  await page.close();
}
process.exit(0);
