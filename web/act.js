// @ts-check
// What a click does: asks the daemon, says what came of it, and has the screen shown anew.

import { Refusal } from './api.js';
import { h } from './dom.js';

/** @typedef {() => Promise<{ text?: string } | null>} Doing null: there is nothing to say */

const notice = /** @type {HTMLElement} */ (document.getElementById('notice'));
/** @type {number | undefined} */
let hiding;
let refresh = async () => {};

/** Names what shows the screen anew after something was done. @param {() => Promise<void>} how */
export function refreshWith(how) {
  refresh = how;
}

/**
 * A message for some seconds.
 * @param {string} text
 * @param {boolean} [bad]
 */
export function say(text, bad) {
  notice.textContent = text;
  notice.className = bad ? 'bad' : '';
  notice.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { notice.hidden = true; }, bad ? 15000 : 6000);
}

/** Whether somebody has to log in first. @param {unknown} error */
export const needsLogin = (error) => error instanceof Refusal && error.status === 401;

/** @param {unknown} error */
export const wordsOf = (error) => (error instanceof Error ? error.message : String(error));

/** Does something, says what came of it, and shows the screen anew. @param {Doing} doing */
export async function act(doing) {
  try {
    const done = await doing();
    if (done?.text) say(done.text);
    await refresh();
  } catch (error) {
    if (needsLogin(error)) location.hash = '#/login';
    say(wordsOf(error), true);
  }
}

/**
 * @param {string} text
 * @param {Doing} doing
 * @param {?string} [kind] `main` or `bad`
 * @param {string} [label] for screen readers, where several have the same text
 */
export const button = (text, doing, kind, label) =>
  h('button', { type: 'button', class: kind, 'aria-label': label, onclick: () => act(doing) }, text);
