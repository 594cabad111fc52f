// Reads and writes the fragment, which is the whole state of a view: it can be linked and reloaded.

/**
 * @typedef {{view: string, id: string, parameters: URLSearchParams}} Route
 */

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

/** @returns {Route} what a fragment asks for; without one the calls. */
export function parse(fragment) {
  const [, view = '', id = '', parameters = ''] = /^#?\/?([^/?]*)\/?([^?]*)\??(.*)$/s.exec(fragment) ?? [];
  return { view: view || 'calls', id: decoded(id), parameters: new URLSearchParams(parameters) };
}

/** The fragment of a view. encodeURIComponent leaves no `/`, `?` or `#` in a Call-ID. */
export function fragment(view, id = '', parameters = null) {
  const text = parameters ? new URLSearchParams(parameters).toString() : '';
  return `#/${view}${id ? `/${encodeID(id)}` : ''}${text ? `?${text}` : ''}`;
}

// It throws at half a surrogate pair, which a Call-ID may have.
function encodeID(id) {
  return encodeURIComponent(id.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd'));
}

export const callLink = (id) => fragment('call', id);
export const connectionLink = (id) => fragment('connection', id);

/** Goes to a fragment. */
export function go(target) { window.location.hash = target; }

/** Changes the fragment without a step in the history, for filters and the open message. */
export function replace(target) {
  if (window.location.hash !== target) window.history.replaceState(window.history.state, '', target);
}

/** Back to where one came from; from a view that was opened by a link, to its list. */
export function back(list) {
  if (window.history.state?.inside) window.history.back();
  else go(fragment(list));
}
