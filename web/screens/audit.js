// @ts-check
// Audit: who did what, when and why.

import { get } from '../api.js';
import { h } from '../dom.js';
import { table } from '../table.js';
import { clock } from '../text.js';

/** @import { AuditRecord } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/** @type {Column<AuditRecord>[]} */
const COLUMNS = [
  { name: 'When', by: (r) => r.time, text: (r) => clock(r.time) },
  { name: 'Who', by: (r) => r.user, text: (r) => r.user },
  { name: '', text: (r) => (r.done ? 'done' : 'refused'), kind: (r) => (r.done ? 'good' : 'bad') },
  { name: 'What', text: (r) => r.action },
  { name: 'Why', text: (r) => r.reason ?? '' },
  { name: 'Outcome', text: (r) => r.result },
];

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function audit(root) {
  const options = { empty: 'nobody changed anything', sort: -1, caption: 'Audit log' };
  const list = table(COLUMNS, { key: (r) => `${r.time}${r.action}`, ...options });
  root.append(h('h1', {}, 'Audit'), list.node);
  return {
    async load() {
      list.set(await get('audit?limit=500'));
    },
    every: 5,
  };
}
