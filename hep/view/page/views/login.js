// The form that asks for the token. The token goes into a cookie that scripts cannot read, and
// never into a URL.
import { h } from '../dom.js';
import { visible } from '../text.js';

export function loginForm(login) {
  const input = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, maxlength: 4096 });
  const error = h('p', { class: 'error', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'button primary' }, 'Log in');
  const form = h('form', {
    class: 'login', 'aria-label': 'Log in', onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      error.textContent = '';
      try { await login(input.value); } catch (failure) {
        error.textContent = visible(failure.message);
        button.disabled = false;
        input.select();
      }
    },
  }, h('img', { src: '/static/favicon.svg', alt: '', width: 40, height: 40 }), h('h1', null, 'hep view'),
  h('label', { for: 'token' }, 'Token'), input, button, error,
  h('p', { class: 'muted' }, 'It is the token that hep view was started with.'));
  queueMicrotask(() => input.focus());
  return h('div', { class: 'view login-view' }, form);
}
