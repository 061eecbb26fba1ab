// @ts-check
// One own host: counters, history, attacks.

import { act } from '../act.js';
import { get } from '../api.js';
import { pastTable } from '../attack_tables.js';
import { chart, inBytes, inPackets, outBytes, outPackets } from '../charts.js';
import { h } from '../dom.js';
import { bps, pps, prefixOf } from '../text.js';

/** @import { Done, PastAttack, Series } from '../api.js' */
/** @import { Screen } from '../app.js' */

/** How far back the history goes, in seconds. */
const RANGES = { '1 hour': 3600, '1 day': 86400, '1 week': 604800, '1 month': 2592000 };

/**
 * @param {HTMLElement} root
 * @param {string} address
 * @returns {Screen}
 */
export function host(root, address) {
  const now = h('div', { class: 'panel' });
  const range = h('select', { 'aria-label': 'Time' },
    Object.entries(RANGES).map(([text, value]) => h('option', { value }, text)));
  const packets = chart('Packets', pps);
  const bytes = chart('Traffic', bps);
  const past = pastTable();
  root.append(h('h1', {}, `Host ${address}`), now,
    h('h2', {}, 'History'), h('p', {}, range), h('div', { class: 'two' }, packets.node, bytes.node),
    h('h2', {}, 'Attacks'), past.node);
  async function load() {
    /** @type {[Done, Series, PastAttack[]]} */
    const [counters, series, attacks] = await Promise.all([
      get(`hosts/${encodeURIComponent(address)}`),
      get(`history/series?name=${encodeURIComponent(`host ${address}`)}&seconds=${range.value}`),
      get(`history/attacks?prefix=${encodeURIComponent(prefixOf(address))}`),
    ]);
    now.replaceChildren(h('pre', {}, counters.text));
    packets.set(series, inPackets, outPackets);
    bytes.set(series, inBytes, outBytes);
    past.set(attacks);
  }
  range.onchange = () => act(async () => {
    await load();
    return null;
  });
  return { load, every: 5 };
}
