// @ts-check
// Small things that several screens show.

import { h } from './dom.js';
import { clock, hostOf, level } from './text.js';

/** @import { Child } from './dom.js' */

/**
 * A line of a log.
 * @param {number} time
 * @param {string} text
 */
export const line = (time, text) => h('div', { class: 'line' }, h('time', {}, clock(time)), h('span', {}, text));

/** A number with its name. @param {string} name @param {Child} value */
export const card = (name, value) => h('div', { class: 'card' }, h('span', {}, name), h('b', {}, value));

/** Names with values. @param {[string, Child][]} pairs */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

/** How bad an attack is. @param {number} x its rate as a multiple of the threshold */
export function severity(x) {
  const title = `${x.toFixed(1)} times the threshold`;
  return h('span', { class: `badge ${level(x)}`, title }, `${level(x)} ×${x.toFixed(1)}`);
}

/** To the page of an attack. @param {{ id: string, prefix: string }} a */
export const attackLink = (a) => h('a', { href: `#/attacks/${encodeURIComponent(a.id)}` }, a.prefix);

/** To the page of a host; a network has none. @param {string} prefix a host's address, or a prefix */
export function hostLink(prefix) {
  const host = hostOf(prefix);
  return host === null ? prefix : h('a', { href: `#/hosts/${encodeURIComponent(host)}` }, prefix);
}
