// @ts-check
// Rules and blackholes: what is announced, and how to end, lengthen or add it.

import { act, button } from '../act.js';
import { api } from '../api.js';
import { form, h } from '../dom.js';
import { ruleColumns, ruleKey } from '../rule_columns.js';
import { table } from '../table.js';
import { now } from '../text.js';

/** @import { MitigationStatus } from '../api.js' */
/** @import { Screen } from '../app.js' */

/**
 * What orders the last withdrawn rule or blackhole again; kept while other screens are shown.
 * @type {?{ path: string, body: Record<string, unknown> }}
 */
let undo = null;

/** @param {MitigationStatus} m */
const pathOf = (m) => `${m.kind === 'flowspec' ? 'rules' : 'blackholes'}/${encodeURIComponent(m.id)}`;

/** @param {MitigationStatus} m */
async function withdraw(m) {
  await api('DELETE', `${pathOf(m)}?reason=dashboard`);
  undo = m.rule
    ? { path: 'rules', body: { rule: m.rule, reason: 'undo' } }
    : { path: 'blackholes', body: { address: m.prefix, reason: 'undo' } };
  if (m.ends && m.ends > now()) undo.body.expires_seconds = Math.ceil(m.ends - now());
  return { text: `withdrawn: ${m.route}` };
}

async function orderAgain() {
  const last = undo;
  undo = null;
  return last && api('POST', last.path, last.body);
}

/** @param {MitigationStatus} m */
const extend = (m) => api('POST', `${pathOf(m)}/extend`, { expires_seconds: 3600, reason: 'dashboard' });

/** @param {MitigationStatus} m */
const actions = (m) => [
  button('Withdraw', () => withdraw(m), 'bad', `withdraw ${m.route}`), ' ',
  button('+1 h', () => extend(m), null, `extend ${m.route}`),
];

async function withdrawAll() {
  const question = 'Withdraw everything everywhere, and announce nothing until it is enabled again?';
  return confirm(question) ? api('POST', 'announcing', { enabled: false, reason: 'dashboard' }) : null;
}

/** Blackholes a host for some time. */
function blackholeForm() {
  const address = h('input', { name: 'address', required: true, placeholder: '203.0.113.9' });
  const minutes = h('input', { name: 'minutes', type: 'number', min: 1, max: 525600, value: 60 });
  const blackhole = () => {
    const order = { address: address.value, expires_seconds: 60 * Number(minutes.value), reason: 'dashboard' };
    return api('POST', 'blackholes', order);
  };
  return form(() => act(blackhole), h('label', {}, 'Own host', address), h('label', {}, 'Minutes', minutes),
    h('button', { class: 'bad' }, 'Blackhole'));
}

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function rules(root) {
  const options = { empty: 'no rule and no blackhole', caption: 'Rules and blackholes' };
  const list = table(ruleColumns(actions), { key: ruleKey, ...options });
  const again = button('Undo the last withdrawal', orderAgain);
  const halt = button('Withdraw everything', withdrawAll, 'bad');
  const announce = () => api('POST', 'announcing', { enabled: true, reason: 'dashboard' });
  const resume = button('Announce again', announce, 'main');
  root.append(h('h1', {}, 'Rules'), h('p', {}, again, ' ', halt, ' ', resume), list.node,
    h('h2', {}, 'Blackhole a host'), blackholeForm());
  return {
    tick(t) {
      list.set(t.mitigations);
      again.hidden = !undo;
      halt.hidden = t.halted;
      resume.hidden = !t.halted;
    },
  };
}
