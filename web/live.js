// @ts-check
// What the daemon tells by itself: a tick each second, and every event.

/** @import { Entry, Tick } from './api.js' */

/** @typedef {{ packetsIn: number, bytesIn: number, bytesOut: number }} Rates of the whole network, per second */

/**
 * @typedef {object} Listener
 * @property {(tick: Tick, rates: ?Rates) => void} tick
 * @property {(entry: Entry) => void} entry
 * @property {() => void} lost the connection is away; the browser tries again by itself
 */

/** Seconds that a rate is measured over at least: a status is up to 0.3 s old. */
const SHORTEST = 0.5;

/** @type {?Tick} */
let last = null;
/** The tick that the next rates are counted from. @type {?Tick} */
let base = null;
/** @type {?Rates} */
let rates = null;
/** @type {EventSource | undefined} */
let stream;
/** @type {Listener | undefined} */
let listener;

/** The newest tick and what came in since the one before; null before the first. */
export const newest = () => ({ tick: last, rates });

/** @param {Tick} t */
function measure(t) {
  if (base) {
    const seconds = Math.abs(t.time - base.time);
    // A stream begins with the newest status, which may be the one that the stream before ended with: no rate of 0.
    if (seconds < SHORTEST) return;
    const rate = (/** @type {number} */ a, /** @type {number} */ b) => Math.max(0, (a - b) / seconds);
    rates = {
      packetsIn: rate(t.incoming.packets, base.incoming.packets),
      bytesIn: rate(t.incoming.bytes, base.incoming.bytes),
      bytesOut: rate(t.outgoing.bytes, base.outgoing.bytes),
    };
  }
  base = t;
}

/** @param {Tick} t */
function tick(t) {
  measure(t);
  last = t;
  listener?.tick(t, rates);
}

/** Names who is told. @param {Listener} who */
export function tell(who) {
  listener = who;
}

/** Opens the stream, anew if it is open: whoever logs in may see more. */
export function listen() {
  stream?.close();
  stream = new EventSource('/api/v1/events');
  stream.addEventListener('tick', (e) => tick(JSON.parse(e.data)));
  stream.addEventListener('entry', (e) => listener?.entry(JSON.parse(e.data)));
  stream.onerror = () => listener?.lost();
}
