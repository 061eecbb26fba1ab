// @ts-check
// Tables of attacks: in progress, and on record.

import { attackLink, severity } from './parts.js';
import { table } from './table.js';
import { bps, clock, pps, span } from './text.js';

/** @import { AttackStatus, PastAttack } from './api.js' */
/** @import { Column } from './table.js' */

/** @type {Column<AttackStatus>[]} */
const LIVE = [
  { name: 'Severity', by: (a) => a.severity, node: (a) => severity(a.severity) },
  { name: 'Target', by: (a) => a.prefix, node: attackLink },
  { name: 'Direction', text: (a) => a.direction },
  { name: 'Group', text: (a) => a.group },
  { name: 'Over', text: (a) => a.threshold },
  { name: 'Since', by: (a) => a.detected, text: (a) => clock(a.detected) },
  { name: 'Packets', n: true, by: (a) => a.packets_per_second, text: (a) => pps(a.packets_per_second) },
  { name: 'Traffic', n: true, by: (a) => a.bytes_per_second, text: (a) => bps(a.bytes_per_second) },
];

/** Seconds since the Unix epoch that are after any end. */
const LATER = 1e12;

/** @type {Column<PastAttack>[]} */
const PAST = [
  { name: 'Severity', by: (a) => a.severity, node: (a) => severity(a.severity) },
  { name: 'Target', by: (a) => a.prefix, node: attackLink },
  { name: 'Direction', text: (a) => a.direction },
  { name: 'Over', text: (a) => a.threshold },
  { name: 'Detected', by: (a) => a.detected, text: (a) => clock(a.detected) },
  {
    name: 'Lasted',
    by: (a) => (a.ended ?? LATER) - a.detected,
    text: (a) => (a.ended ? span(a.ended - a.detected) : 'goes on'),
    kind: (a) => (a.ended ? null : 'bad'),
  },
  { name: 'Peak packets', n: true, by: (a) => a.peak_packets_per_second, text: (a) => pps(a.peak_packets_per_second) },
  { name: 'Peak traffic', n: true, by: (a) => a.peak_bytes_per_second, text: (a) => bps(a.peak_bytes_per_second) },
];

/** Attacks in progress. */
export function attackTable() {
  const options = { empty: 'no attack in progress', sort: -7, caption: 'Attacks in progress' };
  return table(LIVE, { key: (a) => a.id, ...options });
}

/** Attacks on record. One that ends gets a new row: severity is written once per row, and may be another. */
export function pastTable() {
  const options = { empty: 'no attack on record', sort: -5, caption: 'Attacks on record' };
  return table(PAST, { key: (a) => a.id + (a.ended ? 'x' : ''), ...options });
}
