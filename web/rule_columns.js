// @ts-check
// Columns of rules and blackholes.

import { now, scaled, share, span } from './text.js';

/** @import { Child } from './dom.js' */
/** @import { MitigationStatus } from './api.js' */
/** @import { Column } from './table.js' */

/** Tells rules and blackholes apart. @param {MitigationStatus} m */
export const ruleKey = (m) => m.id + m.prefix + m.origin;

/** @param {MitigationStatus} m */
function origin(m) {
  if (!m.order) return `mined, covers ${share(m.coverage)}`;
  return `${m.order.owner}${m.order.reason ? `: ${m.order.reason}` : ''}`;
}

/** @param {MitigationStatus} m */
function state(m) {
  const sent = m.sent_to.length ? `sent to ${m.sent_to.join(', ')}` : 'not sent yet';
  const why = m.dry_run ? m.dry_run.replaceAll('_', ' ') : sent;
  return [why, ...Object.entries(m.not_sent).map(([peer, text]) => `not to ${peer}: ${text}`)].join('; ');
}

/** @param {MitigationStatus} m */
function hits(m) {
  if (m.hits) return scaled(m.hits.packets, '');
  return m.would_have_hit ? `would have hit ${scaled(m.would_have_hit.packets, '')}` : 'unknown';
}

/** @param {MitigationStatus} m */
function ends(m) {
  if (m.ends == null) return 'never';
  return m.ends > now() ? `in ${span(m.ends - now())}` : 'with the attack';
}

/**
 * The columns, with buttons made by `actions`.
 * @param {(m: MitigationStatus) => Child[]} actions
 * @returns {Column<MitigationStatus>[]}
 */
export function ruleColumns(actions) {
  return [
    { name: 'Kind', by: (m) => m.kind, text: (m) => m.kind },
    { name: 'Route', by: (m) => m.route, text: (m) => m.route },
    { name: 'Action', text: (m) => m.action },
    { name: 'Origin', text: origin },
    { name: 'State', text: state, kind: (m) => (m.dry_run ? 'warn' : m.sent_to.length ? 'good' : null) },
    { name: 'Hits', n: true, by: (m) => (m.hits ?? m.would_have_hit)?.packets ?? -1, text: hits },
    { name: 'Age', n: true, by: (m) => m.since, text: (m) => span(now() - m.since) },
    { name: 'Ends', n: true, text: ends },
    { name: 'Act', act: true, node: actions },
  ];
}
