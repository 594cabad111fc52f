// Chromium and Firefox, driven alike: goto(URL), evaluate(FUNCTION, ARGUMENT), reload(), kill(),
// close(). For pages: press(KEY, …), type(TEXT), size(WIDTH, HEIGHT), scheme('light' or 'dark'),
// screenshot(PATH), and problems, what the console of Chromium said. Both take any certificate.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium as playwright } from 'playwright-core';

async function chromium(executablePath) {
  // Without these, Chromium phones home at every start.
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--ignore-certificate-errors'];
  const server = await playwright.launchServer({ executablePath, args });
  const browser = await playwright.connect(server.wsEndpoint());
  const page = await browser.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('dialog', (dialog) => problems.push(`dialog: ${dialog.message()}`));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  return {
    problems,
    goto: (url) => page.goto(url),
    evaluate: (what, argument) => page.evaluate(what, argument),
    press: async (...keys) => { for (const key of keys) await page.keyboard.press(key); },
    type: (text) => page.keyboard.type(text),
    size: (width, height) => page.setViewportSize({ width, height }),
    scheme: (colorScheme) => page.emulateMedia({ colorScheme }),
    screenshot: (path) => page.screenshot({ path }),
    reload: () => page.reload(),
    kill: () => server.kill(),
    close: () => server.close(),
  };
}

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

// Marionette, Firefox's own remote control: "LENGTH:[TYPE, ID, COMMAND, PARAMETERS]" over TCP.
class Marionette {
  #socket;
  #received = Buffer.alloc(0);
  #waiting = new Map();
  #last = 0;

  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (data) => this.#take(data)).on('error', () => {});
  }

  send(command, parameters = {}) {
    this.#last += 1;
    const message = JSON.stringify([0, this.#last, command, parameters]);
    this.#socket.write(`${Buffer.byteLength(message)}:${message}`);
    return new Promise((resolve, reject) => this.#waiting.set(this.#last, { resolve, reject }));
  }

  #take(data) {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const colon = this.#received.indexOf(':');
      const end = colon + 1 + Number(this.#received.subarray(0, colon));
      if (colon < 0 || this.#received.length < end) return;
      const message = JSON.parse(this.#received.subarray(colon + 1, end));
      this.#received = this.#received.subarray(end);
      // What comes first says who is there.
      if (!Array.isArray(message)) continue;
      const [, id, error, result] = message;
      const { resolve, reject } = this.#waiting.get(id);
      if (error) reject(new Error(error.message)); else resolve(result);
    }
  }
}

const reach = (port) => new Promise((resolve, reject) => {
  const socket = connect(port, '127.0.0.1', () => resolve(socket)).on('error', reject);
});

// WebDriver's codes of keys that are no character.
const KEYS = { Enter: '\uE007', Escape: '\uE00C', Tab: '\uE004', ArrowDown: '\uE015', ArrowUp: '\uE013',
  ArrowLeft: '\uE012', ArrowRight: '\uE014', PageDown: '\uE00F', PageUp: '\uE00E', Home: '\uE011',
  End: '\uE010', Backspace: '\uE003' };

async function firefox(path) {
  const profile = await mkdtemp(join(tmpdir(), 'firefox-'));
  const port = await freePort();
  const preferences = { 'marionette.port': port, 'datareporting.policy.dataSubmissionEnabled': false,
    'app.normandy.enabled': false, 'app.update.enabled': false,
    'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false };
  const lines = Object.entries(preferences).map(
    ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, 'user.js'), lines.join(''));
  const process_ = spawn(
    path, ['--headless', '--no-remote', '--marionette', '--remote-allow-system-access', '--profile', profile],
    { detached: true, stdio: 'ignore',
      env: { ...process.env, HOME: profile, MOZ_DISABLE_CONTENT_SANDBOX: '1' } });
  const gone = new Promise((resolve) => { process_.once('exit', resolve); });
  const kill = async () => {
    try { process.kill(-process_.pid, 'SIGKILL'); } catch { /* it is gone */ }
    await gone;
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    let socket;
    for (let tries = 0; !socket; tries += 1) {
      try { socket = await reach(port); } catch (error) {
        if (tries > 300) throw error;
        await pause(100);
      }
    }
    const remote = new Marionette(socket);
    await remote.send('WebDriver:NewSession', { acceptInsecureCerts: true });
    // Runs in the browser itself: a window of it is never as narrow as a phone, but a tab may be.
    const inBrowser = async (script, args) => {
      await remote.send('Marionette:SetContext', { value: 'chrome' });
      try { return await remote.send('WebDriver:ExecuteScript', { script, args }); } finally {
        await remote.send('Marionette:SetContext', { value: 'content' });
      }
    };
    const type = (keys) => remote.send('WebDriver:PerformActions', { actions: [{ type: 'key', id: 'keys',
      actions: keys.flatMap((value) => [{ type: 'keyDown', value }, { type: 'keyUp', value }]) }] });
    return {
      problems: [],
      goto: (url) => remote.send('WebDriver:Navigate', { url }),
      evaluate: async (what, argument = null) => (await remote.send(
        'WebDriver:ExecuteScript', { script: `return (${what})(arguments[0]);`, args: [argument] })).value,
      press: (...keys) => type(keys.map((key) => KEYS[key] ?? key)),
      type: (text) => type([...text]),
      size: async (width, height) => {
        await remote.send('WebDriver:SetWindowRect', { width: Math.max(width, 500), height: height + 200 });
        await inBrowser(`const { style } = gBrowser.selectedBrowser;
          [style.maxWidth, style.maxHeight] = [arguments[0] + 'px', arguments[1] + 'px'];`, [width, height]);
      },
      scheme: (name) => inBrowser(
        "Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', arguments[0]);",
        [name === 'dark' ? 0 : 1]),
      screenshot: async (path_) => writeFile(path_, Buffer.from((await remote.send(
        'WebDriver:TakeScreenshot', { full: false })).value, 'base64')),
      reload: () => remote.send('WebDriver:Refresh'),
      kill,
      close: kill,
    };
  } catch (error) {
    await kill();
    throw error;
  }
}

export const browsers = { chromium, firefox };
