// @ts-check
// Numbers, times and events in words for people.

/** @import { Entry } from './api.js' */

/**
 * Three digits and a unit: `12.8 kp/s`.
 * @param {number} n
 * @param {string} unit
 */
export function scaled(n, unit) {
  const steps = ['', 'k', 'M', 'G', 'T'];
  let i = 0;
  while (Math.abs(n) >= 1000 && i < steps.length - 1) {
    n /= 1000;
    i += 1;
  }
  return `${n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)} ${steps[i]}${unit}`;
}

/** Packets per second. @param {number} n */
export const pps = (n) => scaled(n, 'p/s');

/** Bits per second, of bytes per second. @param {number} bytes */
export const bps = (bytes) => scaled(bytes * 8, 'b/s');

/**
 * A rate in a unit of the baseline: `packets`, `bytes` or `flows` per second.
 * @param {number} n
 * @param {string} unit
 */
export const rateOf = (n, unit) => (unit === 'bytes' ? bps(n) : scaled(n, unit === 'flows' ? 'f/s' : 'p/s'));

/** A share of 0 to 1 in percent. @param {number | null | undefined} x */
export const share = (x) => (x == null ? 'unknown' : `${(x * 100).toFixed(x < 0.01 ? 2 : 1)} %`);

/** @param {number} n */
const two = (n) => String(n).padStart(2, '0');

/** The time of day, of seconds since the Unix epoch. @param {number} t */
export function hour(t) {
  const d = new Date(t * 1000);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** The date, of seconds since the Unix epoch. @param {number} t */
export function day(t) {
  const d = new Date(t * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
}

/** Date and time, of seconds since the Unix epoch. @param {number} t */
export const clock = (t) => `${day(t)} ${hour(t)}`;

/** Now, in seconds since the Unix epoch. */
export const now = () => Date.now() / 1000;

/**
 * How many of a thing.
 * @param {number} n
 * @param {string} what
 */
export const many = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

/** A time that passes, of seconds. @param {number} seconds */
export function span(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** How bad an attack is, of its rate as a multiple of the threshold. @param {number} severity */
export const level = (severity) => (severity < 2 ? 'low' : severity < 5 ? 'middle' : 'high');

/**
 * The address of a prefix that is one host; null for a network.
 * @param {string} prefix
 */
export function hostOf(prefix) {
  const [address, length] = prefix.split('/');
  return length === undefined || `${address}/${length}` === prefixOf(address) ? address : null;
}

/** The prefix of one host. @param {string} address */
export const prefixOf = (address) => `${address}/${address.includes(':') ? 128 : 32}`;

/** An event in words. @param {Entry} e */
export function phrase(e) {
  const who = e.target ? ` ${e.target.prefix} ${e.target.direction}` : '';
  const what = e.route ?? e.threshold ?? e.verdict ?? e.reason ?? e.owner ?? '';
  const more = [e.rate, e.action, e.peer && `peer ${e.peer}`, e.advice, e.text].filter(Boolean).join('; ');
  return `${e.event.replaceAll('_', ' ')}${who}${what ? `: ${what}` : ''}${more ? ` (${more})` : ''}`;
}
