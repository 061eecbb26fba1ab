// @ts-check
// Who is logged in, at the upper right.

import { button } from './act.js';
import { api, get } from './api.js';
import { h } from './dom.js';

/** @import { Session } from './api.js' */

const who = /** @type {HTMLElement} */ (document.getElementById('who'));
const logIn = () => h('a', { href: '#/login' }, 'Log in');

async function logOut() {
  const done = await api('POST', 'logout');
  await whoAmI();
  return done;
}

/** Asks who is logged in, and shows it. */
export async function whoAmI() {
  try {
    /** @type {Session} */
    const session = await get('session');
    if (session.logged_in) {
      who.replaceChildren(h('span', { class: 'soft' }, `${session.user} `), button('Log out', logOut));
    } else {
      who.replaceChildren('', logIn());
    }
  } catch {
    who.replaceChildren(logIn());
  }
}
