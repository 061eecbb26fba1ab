// @ts-check
// Host groups: keys, and thresholds that what was learned suggests.

import { act, button } from '../act.js';
import { api, get } from '../api.js';
import { chart, inPackets, outPackets } from '../charts.js';
import { form, h } from '../dom.js';
import { table } from '../table.js';
import { pps, rateOf, span } from '../text.js';

/** @import { Learned, Series } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/** @typedef {[string, unknown]} Setting a key of the group with its value */

const THRESHOLDS = { packets: 'threshold_pps', bytes: 'threshold_mbps', flows: 'threshold_flows' };

/**
 * Edits a key in the caller's candidate.
 * @param {'set' | 'delete'} verb
 * @param {string[]} words group, key and values
 */
const edit = (verb, ...words) => api('POST', 'config/edit', { verb, words: ['hostgroup', ...words] });

/**
 * Makes a key what was written. Values that are set are added to a list, so one that may be a list is emptied between:
 * after the values were found right, for else an error would leave it empty.
 * @param {string} group
 * @param {Setting} setting as it runs
 * @param {string[]} values
 */
async function replace(group, [key, value], values) {
  const done = await edit('set', group, key, ...values);
  if (value !== null && !Array.isArray(value)) return done;
  await edit('delete', group, key);
  return edit('set', group, key, ...values);
}

/**
 * @param {string} group
 * @returns {Column<Setting>[]}
 */
function keyColumns(group) {
  const change = (/** @type {Setting} */ setting) => {
    const [key, value] = setting;
    const shown = value == null ? '' : [value].flat().join(' ');
    const input = h('input', { 'aria-label': key, value: shown, name: key });
    const words = () => input.value.split(/\s+/).filter(Boolean);
    return form(() => act(() => replace(group, setting, words())), input, h('button', {}, 'Set'));
  };
  return [
    { name: 'Key', by: ([key]) => key, text: ([key]) => key },
    { name: 'Value', text: ([, value]) => JSON.stringify(value) ?? '' },
    { name: 'Change', node: change },
  ];
}

/**
 * @param {string} name
 * @param {'p50' | 'p99' | 'p999' | 'max' | 'suggested_threshold'} field
 * @returns {Column<Learned>}
 */
const rate = (name, field) => ({ name, n: true, text: (l) => rateOf(l[field], l.unit) });

/**
 * @param {string} group
 * @returns {Column<Learned>[]}
 */
function suggestionColumns(group) {
  const take = (/** @type {Learned} */ l) => button('Set', () => {
    const key = THRESHOLDS[l.unit] + (l.direction === 'outgoing' ? '_outgoing' : '');
    const suggested = l.suggested_threshold;
    const mbps = Math.max(1, Math.ceil(suggested * 8 / 1e6));
    return edit('set', group, key, String(l.unit === 'bytes' ? mbps : suggested));
  }, null, `set the suggested threshold of ${l.of} ${l.direction}`);
  return [
    { name: 'Of', text: (l) => l.of },
    { name: 'Direction', text: (l) => l.direction },
    rate('Median', 'p50'),
    rate('99 %', 'p99'),
    rate('99.9 %', 'p999'),
    rate('Most', 'max'),
    { ...rate('Suggested threshold', 'suggested_threshold'), kind: () => 'good' },
    { name: 'Learned', n: true, text: (l) => span(l.seconds) },
    { name: 'Which is', text: (l) => l.from },
    { name: 'Take it', node: take },
  ];
}

/**
 * @param {HTMLElement} root
 * @param {?string} chosen
 * @returns {Screen}
 */
export function groups(root, chosen) {
  const name = chosen ?? 'global';
  const tabs = h('p', { class: 'tabs' });
  const keys = table(keyColumns(name), { key: ([key]) => key, empty: 'no keys', caption: 'Keys of the host group' });
  const rates = chart('Packets of its hosts together, one week', pps);
  const suggestions = table(suggestionColumns(name), {
    key: (l) => `${l.of} ${l.direction} ${l.unit}`,
    empty: 'nothing has been learned yet: baseline_learning needs some minutes of traffic without an attack',
    caption: 'Suggested thresholds',
  });
  root.append(h('h1', {}, `Host group ${name}`), tabs, rates.node,
    h('h2', {}, 'Suggested thresholds of one host'), suggestions.node,
    h('h2', {}, 'Keys'),
    h('p', {}, 'Changes go into your candidate: ', h('a', { href: '#/config' }, 'compare and commit')), keys.node);
  const tab = (/** @type {string} */ n) => {
    const current = n === name ? 'page' : null;
    return [h('a', { class: 'button', href: `#/groups/${encodeURIComponent(n)}`, 'aria-current': current }, n), ' '];
  };
  return {
    async load() {
      /** @type {[string[], Record<string, unknown>, Series, Learned[]]} */
      const [names, group, series, learned] = await Promise.all([
        get('hostgroups'),
        get(`hostgroups/${encodeURIComponent(name)}`),
        get(`history/series?name=${encodeURIComponent(`group ${name}`)}&seconds=604800`),
        get('baseline'),
      ]);
      tabs.replaceChildren(...names.flatMap(tab));
      rates.set(series, inPackets, outPackets);
      suggestions.set(learned.filter((l) => l.of === `host of ${name}`));
      keys.set(Object.entries(group));
    },
  };
}
