// @ts-check
// Overview: traffic, what goes on now, and the last events.

import { get } from '../api.js';
import { attackTable } from '../attack_tables.js';
import { chart, inBytes, inPackets, outBytes, outPackets } from '../charts.js';
import { h } from '../dom.js';
import { line } from '../parts.js';
import { bps, phrase, pps } from '../text.js';

/** @import { PastEvent, Series, Tick } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Rates } from '../live.js' */

/** Events that are shown at most. */
const MOST = 100;

/** @typedef {{ name: string, text: (t: Tick, r: ?Rates) => string | number, kind?: (t: Tick) => string }} Card */

const waiting = (/** @type {Tick} */ t) => t.mitigations.filter((m) => m.awaits_approval).length;
const up = (/** @type {Tick} */ t) => t.peers.filter((p) => p.state === 'established').length;
const quiet = (/** @type {Tick} */ t) => t.exporters.filter((e) => e.silent_seconds > 60).length;

/** @type {Card[]} */
const CARDS = [
  { name: 'Incoming', text: (t, r) => (r ? bps(r.bytesIn) : '–') },
  { name: 'Incoming packets', text: (t, r) => (r ? pps(r.packetsIn) : '–') },
  { name: 'Outgoing', text: (t, r) => (r ? bps(r.bytesOut) : '–') },
  { name: 'Active hosts', text: (t) => t.active_hosts },
  { name: 'Attacks', text: (t) => t.attacks.length, kind: (t) => (t.attacks.length ? 'bad' : '') },
  { name: 'To approve', text: waiting, kind: (t) => (waiting(t) ? 'warn' : '') },
  { name: 'Rules', text: (t) => t.mitigations.length },
  {
    name: 'BGP sessions',
    text: (t) => `${up(t)} of ${t.peers.length}`,
    kind: (t) => (up(t) < t.peers.length ? 'bad' : ''),
  },
  {
    name: 'Exporters',
    text: (t) => (quiet(t) ? `${t.exporters.length} (${quiet(t)} silent)` : t.exporters.length),
    kind: (t) => (quiet(t) ? 'bad' : ''),
  },
];

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function overview(root) {
  const values = CARDS.map(() => h('b', {}, '–'));
  const cards = CARDS.map((c, i) => h('div', { class: 'card' }, h('span', {}, c.name), values[i]));
  const traffic = chart('Traffic of the last hour', bps);
  const packets = chart('Packets of the last hour', pps);
  const attacks = attackTable();
  const events = h('div', { class: 'panel', role: 'log', 'aria-label': 'Events' });
  const warnings = h('div', {});
  root.append(h('h1', {}, 'Overview'), warnings, h('div', { class: 'cards' }, cards),
    h('h2', {}, 'Traffic'), h('div', { class: 'two' }, traffic.node, packets.node),
    h('h2', {}, 'Attacks in progress'), attacks.node,
    h('h2', {}, 'Events'), events);
  const add = (/** @type {number} */ time, /** @type {string} */ text) => {
    events.prepend(line(time, text));
    while (events.children.length > MOST) events.lastChild?.remove();
  };
  return {
    async load() {
      /** @type {[Series, PastEvent[]]} */
      const [series, past] = await Promise.all([
        get('history/series?name=total&seconds=3600'),
        get('history/events?limit=30'),
      ]);
      traffic.set(series, inBytes, outBytes);
      packets.set(series, inPackets, outPackets);
      events.replaceChildren();
      past.forEach((e) => add(e.time, phrase(e.entry)));
    },
    every: 10,
    tick(t, rates) {
      CARDS.forEach((card, i) => {
        values[i].textContent = String(card.text(t, rates));
        if (card.kind) values[i].className = card.kind(t);
      });
      attacks.set(t.attacks);
      warnings.replaceChildren(...t.warnings.map((w) => h('p', { class: 'alert', role: 'alert' }, w)));
    },
    entry(e) {
      add(e.time, phrase(e));
    },
  };
}
