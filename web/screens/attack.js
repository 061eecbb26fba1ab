// @ts-check
// One attack: what it is made of, what was done and why, and its evidence.

import { button } from '../act.js';
import { api, get } from '../api.js';
import { chart, inPackets, outPackets } from '../charts.js';
import { h } from '../dom.js';
import { card, facts, hostLink, line, severity } from '../parts.js';
import { table } from '../table.js';
import { bps, clock, hour, now, phrase, pps, scaled, share, span } from '../text.js';

/** @import { AttackPage, Candidate, Entry, Facet, PastAttack, SamplePage, SampleRow } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/** Rows of the sample, and values of a facet, that are shown at most. */
const ROWS = 200;
const VALUES = 6;

/** @type {Record<number, string>} */
const PROTOCOLS = { 1: 'icmp', 6: 'tcp', 17: 'udp', 47: 'gre', 58: 'icmpv6' };
const TCP = 6;
/** TCP flags from the lowest bit. */
const FLAGS = ['F', 'S', 'R', 'P', 'A', 'U'];
const FACETS = {
  source_ports: 'Source ports',
  destination_ports: 'Destination ports',
  remote: 'Remote ends',
  protocols: 'Protocols',
  lengths: 'Lengths',
  exporters: 'Exporters',
  interfaces: 'Interfaces',
};

/** @type {Column<Candidate>[]} */
const CANDIDATES = [
  { name: 'Rule', text: (c) => c.rule },
  { name: 'Covers packets', n: true, by: (c) => c.coverage, text: (c) => share(c.coverage) },
  { name: 'Covers bytes', n: true, by: (c) => c.coverage_bytes, text: (c) => share(c.coverage_bytes) },
  {
    name: 'Ordinary traffic hit',
    n: true,
    by: (c) => c.collateral ?? -1,
    text: (c) => share(c.collateral),
    kind: (c) => ((c.collateral ?? 0) > 0.01 ? 'warn' : null),
  },
  { name: 'Why', text: (c) => c.reason, kind: (c) => (c.reason === 'chosen' ? 'good' : null) },
];

/** @typedef {SampleRow & { row: number }} Row with its place in the sample */

/** @type {Column<Row>[]} */
const SAMPLE = [
  { name: 'Time', by: (r) => r.time, text: (r) => hour(r.time) },
  { name: 'From', by: (r) => r.source, text: (r) => `${r.source}:${r.source_port}` },
  { name: 'To', by: (r) => r.destination, text: (r) => `${r.destination}:${r.destination_port}` },
  { name: 'Protocol', by: (r) => r.protocol, text: (r) => PROTOCOLS[r.protocol] ?? r.protocol },
  { name: 'Length', n: true, by: (r) => r.length, text: (r) => r.length },
  { name: 'Flags', text: (r) => (r.protocol === TCP ? FLAGS.filter((_, i) => r.tcp_flags >> i & 1).join('') : '') },
  { name: 'Stands for', n: true, by: (r) => r.packets, text: (r) => scaled(r.packets, 'p') },
];

/**
 * The threshold, if it is one of packets per second; null if not. It is read from words: the API has no field of it.
 * @param {PastAttack} a
 */
function packetThreshold(a) {
  const words = /of (\d+) packets/.exec(a.threshold);
  return words ? Number(words[1]) : null;
}

/** What the alarm was raised on. @param {Entry | undefined} alarm */
function restsOn(alarm) {
  if (!alarm?.evidence) return 'unknown';
  const { observed, window_ms, lower_bound } = alarm.evidence;
  const above = scaled(lower_bound, '/s');
  return `${alarm.rate} from ${observed} observations in ${window_ms} ms, certainly above ${above}`;
}

/** @param {PastAttack} a */
function cardsOf(a) {
  const state = a.ended
    ? `over after ${span(a.ended - a.detected)}`
    : h('span', { class: 'bad' }, `for ${span(now() - a.detected)}`);
  return [
    card('Severity', severity(a.severity)), card('State', state), card('Peak packets', pps(a.peak_packets_per_second)),
    card('Peak traffic', bps(a.peak_bytes_per_second)), card('Direction', a.direction), card('Host group', a.group),
  ];
}

/**
 * A field of the sample with its most frequent values.
 * @param {string} name
 * @param {Facet[]} values
 */
function facet(name, values) {
  const bar = (/** @type {Facet} */ f) => h('div', { class: 'bar' }, h('meter', { min: 0, max: 1, value: f.share }),
    h('span', {}, f.value), h('span', { class: 'soft' }, share(f.share)));
  return h('div', { class: 'facet' }, h('h3', {}, name), values.slice(0, VALUES).map(bar));
}

/** The sample of an attack. @param {string} path of the attack */
function sampleOf(path) {
  const facets = h('div', { class: 'facets' });
  const empty = 'no sample is kept of this attack';
  const rows = table(SAMPLE, { key: (r) => r.row, empty, caption: 'Sample', tall: true });
  let seen = -1;
  return {
    nodes: [facets, rows.node],
    /** Shows it anew if it has grown. */
    async load() {
      /** @type {SamplePage} */
      const page = await get(`${path}/sample`);
      if (page.count === seen) return;
      seen = page.count;
      const there = Object.entries(FACETS).filter(([key]) => page.facets[key]?.length);
      facets.replaceChildren(...there.map(([key, name]) => facet(name, page.facets[key])));
      rows.set(page.samples.slice(0, ROWS).map((r, row) => ({ ...r, row })));
    },
  };
}

/** What is done with an attack as a whole. @param {string} path of the attack */
function tools(path) {
  const save = (/** @type {string} */ what, /** @type {string} */ text) =>
    h('a', { class: 'button', href: `/api/v1/${path}${what}`, download: '' }, text);
  const question = 'Whitelist this traffic at this host for 30 days and withdraw what was announced against it?';
  const forgive = button('False positive', async () => {
    if (!confirm(question)) return null;
    return api('POST', `${path}/false_positive`, { reason: 'false positive, dashboard' });
  }, 'bad');
  return h('span', { class: 'tools' }, save('/pcap', 'Sample as pcap'), save('/cases', 'Evidence as JSON'),
    save('', 'Report as JSON'), forgive);
}

/**
 * @param {HTMLElement} root
 * @param {string} id
 * @returns {Screen}
 */
export function attack(root, id) {
  const path = `history/attacks/${encodeURIComponent(id)}`;
  const title = h('h1', {}, 'Attack');
  const cards = h('div', { class: 'cards' });
  const head = h('div', { class: 'panel' });
  const curve = chart('Packets around the attack', pps);
  const empty = 'no sample was mined yet';
  const candidates = table(CANDIDATES, { key: (c) => c.rule, empty, caption: 'Candidates' });
  const log = h('div', { class: 'panel log' });
  const sample = sampleOf(path);
  root.append(h('div', { class: 'title' }, title, tools(path)), cards, head,
    h('h2', {}, 'Evidence'), curve.node, h('h2', {}, 'Candidates'), candidates.node,
    h('h2', {}, 'What was done and why'), log, h('h2', {}, 'Sample'), ...sample.nodes);
  return {
    async load() {
      /** @type {AttackPage} */
      const page = await get(path);
      const a = page.attack;
      const mined = page.events.filter((e) => e.kind === 'candidates').map((e) => e.entry);
      title.replaceChildren('Attack on ', hostLink(a.prefix));
      cards.replaceChildren(...cardsOf(a));
      head.replaceChildren(facts([
        ['Threshold', a.threshold], ['Detected', clock(a.detected)], ['Ended', a.ended ? clock(a.ended) : 'goes on'],
        ['Rests on', restsOn(page.events.find((e) => e.kind === 'alarm')?.entry)],
        ['Verdict', [...new Set(mined.map((m) => m.verdict))].join('; ') || 'not mined yet'],
      ]));
      curve.set(page.series, inPackets, outPackets, packetThreshold(a));
      candidates.set(mined.findLast((m) => m.ranking?.length)?.ranking ?? []);
      const done = page.events.filter((e) => e.kind !== 'candidates');
      log.replaceChildren(...done.map((e) => line(e.time, phrase(e.entry))));
      await sample.load();
    },
    every: 3,
  };
}
