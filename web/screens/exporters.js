// @ts-check
// Exporters of flow telemetry, and BGP peers.

import { get } from '../api.js';
import { h } from '../dom.js';
import { table } from '../table.js';
import { scaled, span } from '../text.js';

/** @import { ExporterStatus, PeerStatus } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/** @param {Record<string, number>} errors */
const listed = (errors) => Object.entries(errors).map(([reason, n]) => `${reason}: ${n}`).join(', ') || 'nothing';

/** @type {Column<ExporterStatus>[]} */
const EXPORTERS = [
  { name: 'Exporter', by: (e) => e.address, text: (e) => e.address },
  { name: 'Speaks', text: (e) => e.protocols.join(', ') },
  { name: 'Records', n: true, by: (e) => e.records_per_second, text: (e) => scaled(e.records_per_second, '/s') },
  {
    name: 'Silent',
    n: true,
    by: (e) => e.silent_seconds,
    text: (e) => span(e.silent_seconds),
    kind: (e) => (e.silent_seconds > 60 ? 'bad' : null),
  },
  {
    name: 'Lost',
    n: true,
    by: (e) => e.lost_records,
    text: (e) => scaled(e.lost_records, ''),
    kind: (e) => (e.lost_records > e.records / 100 ? 'warn' : null),
  },
  {
    name: 'Sampling',
    n: true,
    text: (e) => `1:${e.sampling_rate || '?'} (${e.sampling_source})`,
    kind: (e) => (e.measured_rate ? 'bad' : null),
  },
  { name: 'Clock skew', n: true, text: (e) => `${e.clock_skew_ms} ms` },
  { name: 'Not understood', text: (e) => listed(e.errors) },
];

/** @type {Column<PeerStatus>[]} */
const PEERS = [
  { name: 'Peer', by: (p) => p.name, text: (p) => p.name },
  { name: 'State', text: (p) => p.state, kind: (p) => (p.state === 'established' ? 'good' : 'bad') },
  { name: 'Families', text: (p) => p.families.join(' ') },
  { name: 'Sent', n: true, text: (p) => p.routes_sent },
  { name: 'Up', n: true, text: (p) => (p.uptime_seconds == null ? '' : span(p.uptime_seconds)) },
  { name: 'Last error', text: (p) => p.last_error ?? '' },
];

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function exporters(root) {
  const empty = 'no exporter has sent anything';
  const list = table(EXPORTERS, { key: (e) => e.address, empty, sort: 1, caption: 'Exporters' });
  const peers = table(PEERS, { key: (p) => p.name, empty: 'no BGP peer is configured', caption: 'BGP peers' });
  root.append(h('h1', {}, 'Exporters'), list.node, h('h2', {}, 'BGP peers'), peers.node);
  return {
    async load() {
      const [e, p] = await Promise.all([get('exporters'), get('peers')]);
      list.set(e);
      peers.set(p);
    },
    every: 2,
  };
}
