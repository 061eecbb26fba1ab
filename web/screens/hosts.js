// @ts-check
// Hosts: the own hosts with the most traffic.

import { act } from '../act.js';
import { get } from '../api.js';
import { form, h } from '../dom.js';
import { hostLink } from '../parts.js';
import { table } from '../table.js';
import { bps, pps } from '../text.js';

/** @import { HostRates } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/**
 * A column of rates.
 * @param {string} name
 * @param {(r: HostRates) => number} of
 * @param {(n: number) => string} unit
 * @returns {Column<HostRates>}
 */
const rate = (name, of, unit) => ({ name, n: true, by: of, text: (r) => unit(of(r)) });

/** @type {Column<HostRates>[]} */
const COLUMNS = [
  { name: 'Host', by: (r) => r.host, node: (r) => hostLink(r.host) },
  { name: 'Group', text: (r) => r.group ?? '' },
  rate('In packets', (r) => r.packets_per_second, pps),
  rate('In traffic', (r) => r.bytes_per_second, bps),
  rate('Out packets', (r) => r.outgoing_packets_per_second, pps),
  rate('Out traffic', (r) => r.outgoing_bytes_per_second, bps),
];

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function hosts(root) {
  const options = (/** @type {string[]} */ names) => names.map((name) => h('option', {}, name));
  const order = h('select', {}, options(['packets', 'bytes']));
  const way = h('select', {}, options(['incoming', 'outgoing']));
  const find = h('input', { type: 'search', placeholder: 'an own address', id: 'search' });
  const list = table(COLUMNS, { key: (r) => r.host, empty: 'no host has traffic', caption: 'Hosts by traffic' });
  async function load() {
    list.set((await get(`hosts?order=${order.value}&direction=${way.value}&limit=200`)).value);
  }
  const again = async () => {
    await load();
    return null;
  };
  order.onchange = () => act(again);
  way.onchange = () => act(again);
  const show = () => {
    if (find.value) location.hash = `#/hosts/${encodeURIComponent(find.value.trim())}`;
  };
  root.append(h('h1', {}, 'Hosts'), form(show, h('label', {}, 'Sorted by', order), h('label', {}, 'Direction', way),
    h('label', {}, 'One host', find), h('button', { class: 'main' }, 'Show')), list.node);
  return { load, every: 2 };
}
