// @ts-check
// Attacks: in progress, over the last day, and on record.

import { get } from '../api.js';
import { attackTable, pastTable } from '../attack_tables.js';
import { timeline } from '../charts.js';
import { h } from '../dom.js';
import { now } from '../text.js';

/** @import { PastAttack } from '../api.js' */
/** @import { Screen } from '../app.js' */

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function attacks(root) {
  const live = attackTable();
  const past = pastTable();
  const bars = timeline();
  root.append(h('h1', {}, 'Attacks'), live.node, h('h2', {}, 'The last day'), bars.node,
    h('h2', {}, 'On record'), past.node);
  return {
    async load() {
      /** @type {PastAttack[]} */
      const all = await get('history/attacks?limit=200');
      past.set(all);
      bars.set(all.filter((a) => (a.ended ?? Infinity) > now() - 86400));
    },
    every: 5,
    tick(t) {
      live.set(t.attacks);
    },
  };
}
