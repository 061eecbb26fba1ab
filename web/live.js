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

/** @type {?Tick} */
let last = null;
/** @type {?Rates} */
let rates = null;
/** @type {EventSource | undefined} */
let stream;
/** @type {Listener | undefined} */
let listener;

/** The newest tick and what came in since the one before; null before the first. */
export const newest = () => ({ tick: last, rates });

/** @param {Tick} t */
function tick(t) {
  if (last) {
    const seconds = Math.max(0.2, t.time - last.time);
    const rate = (/** @type {number} */ a, /** @type {number} */ b) => Math.max(0, (a - b) / seconds);
    rates = {
      packetsIn: rate(t.incoming.packets, last.incoming.packets),
      bytesIn: rate(t.incoming.bytes, last.incoming.bytes),
      bytesOut: rate(t.outgoing.bytes, last.outgoing.bytes),
    };
  }
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
