// Speaks to the service: answers in JSON and the live stream.

/** An answer with an error status; its message is what the service said. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let onLogin = () => {};
/** @param {Function} run called when an answer asks for a login. */
export const whenLoginIsNeeded = (run) => { onLogin = run; };

/** Parameters for a URL; a list is repeated, what is empty is left out. */
export function query(parameters = {}) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of [value].flat()) if (each !== '' && each != null) pairs.append(name, each);
  }
  const text = pairs.toString();
  return text && `?${text}`;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, { credentials: 'same-origin', cache: 'no-store', ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Failure(0, 'The viewer does not answer. Is hep view running?');
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error ?? message; } catch { /* no JSON: the status must do */ }
  if (response.status === 401 && path !== 'login') onLogin();
  throw new Failure(response.status, message);
}

/** GET /api/v1/NAME. */
export const get = (name, parameters, signal) => ask(name + query(parameters), { signal });

/** POST /api/v1/NAME with JSON. The header keeps forms of other pages out. */
export const post = (name, body = {}) => ask(name, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', 'X-Requested-With': 'hep-view' },
  body: JSON.stringify(body),
});

/** Address of an export, for a link. */
export const exportAddress = (id, format, anonymous) =>
  `/api/v1/call/export${query({ id, format, anonymous: anonymous ? 1 : '' })}`;

/** The live stream. Events: `calls`, `connections`, `status`, and `link` with true or false. */
export class Live extends EventTarget {
  #source = null;
  #timer = 0;
  #wait = 1000;

  start() {
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource('/api/v1/live');
    this.#source = source;
    source.addEventListener('open', () => {
      this.#wait = 1000;
      this.#send('link', true);
    });
    for (const name of ['calls', 'connections', 'status']) {
      source.addEventListener(name, (event) => this.#send(name, JSON.parse(event.data)));
    }
    source.addEventListener('error', () => {
      this.#send('link', false);
      // A browser reconnects by itself unless the answer was an error, such as 401 or 502 of a proxy.
      if (source.readyState !== EventSource.CLOSED) return;
      this.#timer = setTimeout(() => this.#check(), this.#wait);
      this.#wait = Math.min(this.#wait * 2, 15_000);
    });
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  // An EventSource does not say why it failed. If it was 401, get() shows the login.
  async #check() {
    try { await get('status'); } catch (failure) {
      if (failure.status === 401) return;
    }
    this.start();
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
