// @ts-check
// Approvals: what waits for a person's yes.

import { button } from '../act.js';
import { api } from '../api.js';
import { h } from '../dom.js';
import { ruleColumns, ruleKey } from '../rule_columns.js';
import { table } from '../table.js';

/** @import { MitigationStatus } from '../api.js' */
/** @import { Screen } from '../app.js' */

const ABOUT = 'Rules of host groups with mitigation = "approve" wait here, and blackholes that no person has agreed '
  + 'to: no rule helps, and the traffic looks ordinary or is below blackhole_pps and blackhole_mbps; also what rests '
  + 'on a sampling rate that its exporter contradicts, while it does.';

/** @param {MitigationStatus} m */
function actions(m) {
  const path = `approvals/${encodeURIComponent(m.id)}?reason=dashboard`;
  return [
    button('Approve', () => api('POST', path), 'main', `approve ${m.route}`), ' ',
    button('Drop', () => api('DELETE', path), 'bad', `drop ${m.route}`),
  ];
}

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function approvals(root) {
  const options = { empty: 'nothing waits for approval', caption: 'Waiting for approval' };
  const list = table(ruleColumns(actions), { key: ruleKey, ...options });
  root.append(h('h1', {}, 'Approvals'), h('p', { class: 'soft' }, ABOUT), list.node);
  return {
    tick(t) {
      list.set(t.mitigations.filter((m) => m.awaits_approval));
    },
  };
}
