// @ts-check
// Logging in with a token.

import { act } from '../act.js';
import { api } from '../api.js';
import { form, h } from '../dom.js';
import { listen } from '../live.js';
import { whoAmI } from '../session.js';

/** @import { Screen } from '../app.js' */

const HOW = 'On the daemon\'s host: floodwall set token NAME scopes operate,approve,config expires 30d';

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function login(root) {
  const attributes = { type: 'password', name: 'token', autocomplete: 'current-password', required: true, size: 50 };
  const token = h('input', attributes);
  const logIn = async () => {
    const done = await api('POST', 'login', { token: token.value });
    await whoAmI();
    location.hash = '#/';
    listen();
    return done;
  };
  root.append(h('h1', {}, 'Log in'), h('p', { class: 'soft' }, HOW),
    form(() => act(logIn), h('label', {}, 'Token', token), h('button', { class: 'main' }, 'Log in')));
  token.focus();
  return {};
}
