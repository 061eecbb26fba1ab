// @ts-check
// Charts: two lines over time with axes and what stands under the pointer, and bars over the last day.

import { h, s } from './dom.js';
import { clock, day, hostOf, hour, level, now, span } from './text.js';

/** @import { PastAttack, Point, Series } from './api.js' */

/** @typedef {{ time: number, in: number, out: number }} Place a point of both lines, time since the Unix epoch */
/** @typedef {'in' | 'out'} Way */

/** Pixels left of the plot and below it, for the axes. */
const LEFT = 64;
const BELOW = 20;

/** What a chart of traffic reads from a point. */
export const inBytes = (/** @type {Point} */ p) => p.bytes_per_second_in;
export const outBytes = (/** @type {Point} */ p) => p.bytes_per_second_out;
export const inPackets = (/** @type {Point} */ p) => p.packets_per_second_in;
export const outPackets = (/** @type {Point} */ p) => p.packets_per_second_out;

/** A round number at or above n: 1, 2 or 5 times a power of ten. @param {number} n */
function round(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 5, 10].map((f) => f * power).find((r) => r >= n) ?? n;
}

/**
 * Places of a time axis: at most `count`, on whole minutes, hours or days.
 * @param {number} first
 * @param {number} last
 * @param {number} count
 */
function moments(first, last, count) {
  const steps = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800];
  const step = steps.find((size) => (last - first) / size <= count) ?? 2592000;
  const shift = new Date(first * 1000).getTimezoneOffset() * 60;
  const places = [];
  for (let t = Math.ceil((first - shift) / step) * step + shift; t <= last; t += step) places.push(t);
  return { step, places };
}

/**
 * A time as an axis of this step names it.
 * @param {number} t
 * @param {number} step
 */
const moment = (t, step) => (step >= 86400 ? day(t).slice(5) : step >= 60 ? hour(t).slice(0, 5) : hour(t));

/**
 * A picture as wide as its box, drawn anew when that changes.
 * @param {string} caption
 * @param {number} height
 * @param {number} left
 */
function canvas(caption, height, left) {
  const svg = s('svg', { class: 'chart', role: 'img', 'aria-label': caption, height });
  const box = h('div', { class: 'chartbox' }, svg);
  let draw = () => {};
  const width = () => Math.max(240, box.clientWidth);
  const right = () => width() - 8;
  new ResizeObserver(() => draw()).observe(box);
  return {
    svg,
    box,
    height,
    left,
    right,
    /** The time axis: where a time stands, and its marks. @param {number} first @param {number} last */
    time(first, last) {
      const end = right();
      const x = (/** @type {number} */ t) => left + (end - left) * (t - first) / Math.max(1, last - first);
      const { step, places } = moments(first, last, Math.max(2, Math.floor(width() / 110)));
      const marks = places.flatMap((t) => [
        s('line', { class: 'grid', x1: x(t), x2: x(t), y1: 4, y2: height - BELOW }),
        s('text', { x: Math.min(x(t), end - 22), y: height - 5, 'text-anchor': 'middle' }, moment(t, step)),
      ]);
      return { x, marks };
    },
    /** Shows what `parts` makes, now and whenever the width changes. @param {() => Node[]} parts */
    show(parts) {
      draw = () => {
        svg.setAttribute('width', String(width()));
        svg.replaceChildren(...parts());
      };
      draw();
    },
  };
}

/**
 * The lines of a chart, with the axis of rates and the threshold.
 * @param {ReturnType<typeof canvas>} on
 * @param {Place[]} all
 * @param {{ unit: (n: number) => string, step: number, limit: ?number }} how
 * @returns {Node[]}
 */
function lines(on, all, { unit, step, limit }) {
  const top = round(Math.max(1, limit ?? 0, ...all.map((p) => Math.max(p.in, p.out))));
  const [first, last] = [all[0].time, all[all.length - 1].time];
  const { x, marks } = on.time(first, last);
  const y = (/** @type {number} */ v) => 6 + (on.height - BELOW - 6) * (1 - v / top);
  const across = (/** @type {string} */ kind, /** @type {number} */ v) =>
    s('line', { class: kind, x1: on.left, x2: on.right(), y1: y(v), y2: y(v) });
  const rows = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    across('grid', top * part),
    s('text', { x: on.left - 6, y: y(top * part) + 4, 'text-anchor': 'end' }, unit(top * part)),
  ]);
  const at = (/** @type {Place} */ p, /** @type {Way} */ of) => `${x(p.time).toFixed(1)},${y(p[of]).toFixed(1)}`;
  // Where nothing was counted the line has a gap.
  const goesOn = (/** @type {number} */ i) => i > 0 && (!step || all[i].time - all[i - 1].time <= 3 * step);
  const line = (/** @type {Way} */ of) => all.map((p, i) => `${goesOn(i) ? 'L' : 'M'}${at(p, of)}`).join('');
  const area = `M${x(first)},${y(0)}L${all.map((p) => at(p, 'in')).join('L')}L${x(last)},${y(0)}Z`;
  return [
    ...marks,
    ...rows,
    s('path', { class: 'area', d: area }),
    s('path', { class: 'out', d: line('out') }),
    s('path', { class: 'in', d: line('in') }),
    ...(limit ? [across('limit', limit)] : []),
  ];
}

/**
 * Incoming and outgoing traffic over time.
 * @param {string} caption
 * @param {(n: number) => string} unit
 */
export function chart(caption, unit) {
  const on = canvas(caption, 190, LEFT);
  const read = h('span', { class: 'soft' });
  const names = [h('i', { class: 'in' }, 'incoming'), h('i', { class: 'out' }, 'outgoing')];
  const key = h('p', { class: 'legend' }, names, read);
  const none = h('p', { class: 'soft empty' }, 'nothing yet');
  /** @type {Place[]} */
  let all = [];
  const summary = () => (all.length ? `highest ${unit(Math.max(...all.map((p) => Math.max(p.in, p.out))))}` : '');
  on.svg.addEventListener('pointermove', (e) => {
    if (all.length < 2) return;
    const [first, last] = [all[0].time, all[all.length - 1].time];
    const px = e.clientX - on.svg.getBoundingClientRect().left;
    const at = first + (last - first) * (px - LEFT) / Math.max(1, on.right() - LEFT);
    const p = all.reduce((best, q) => (Math.abs(q.time - at) < Math.abs(best.time - at) ? q : best));
    read.textContent = `${clock(p.time)}: in ${unit(p.in)}, out ${unit(p.out)}`;
  });
  on.svg.addEventListener('pointerleave', () => { read.textContent = summary(); });
  return {
    node: h('figure', {}, h('figcaption', {}, caption), on.box, none, key),
    /**
     * @param {Series} series
     * @param {(p: Point) => number} incoming
     * @param {(p: Point) => number} outgoing
     * @param {?number} limit a threshold, in the unit of the lines
     */
    set(series, incoming, outgoing, limit = null) {
      all = series.points.map((p) => ({ time: p.time, in: incoming(p), out: outgoing(p) }));
      none.hidden = all.length > 1;
      on.box.hidden = !none.hidden;
      key.hidden = on.box.hidden;
      if (on.box.hidden) return;
      read.textContent = summary();
      on.show(() => lines(on, all, { unit, step: series.step, limit }));
    },
  };
}

/** Attacks as bars over the last day, one row per target. */
export function timeline() {
  const on = canvas('Attacks of the last day', 170, 150);
  /** @param {PastAttack[]} list */
  function parts(list) {
    const end = now();
    const { x, marks } = on.time(end - 86400, end);
    const targets = [...new Set(list.map((a) => a.prefix))];
    const height = Math.min(18, (on.height - BELOW - 10) / Math.max(1, targets.length));
    const top = (/** @type {string} */ prefix) => 6 + targets.indexOf(prefix) * height;
    const bars = list.map((a) => {
      const from = x(Math.max(end - 86400, a.detected));
      const width = Math.max(3, x(a.ended ?? end) - from);
      const size = { x: from, y: top(a.prefix), width, height: Math.max(2, height - 3), rx: 2 };
      const lasted = a.ended ? span(a.ended - a.detected) : 'goes on';
      const about = `${a.prefix} ${a.direction}, ×${a.severity.toFixed(1)}, ${clock(a.detected)}, ${lasted}`;
      const bar = s('rect', { class: level(a.severity), ...size });
      bar.append(s('title', {}, about));
      const link = s('a', { href: `#/attacks/${encodeURIComponent(a.id)}` });
      link.append(bar);
      return link;
    });
    const name = (/** @type {string} */ prefix) => {
      const place = { x: 142, y: top(prefix) + height / 2 + 2, 'text-anchor': 'end' };
      return s('text', place, (hostOf(prefix) ?? prefix).slice(0, 24));
    };
    return [...marks, ...(height < 9 ? [] : targets.map(name)), ...bars];
  }
  return {
    node: on.box,
    /** @param {PastAttack[]} list */
    set(list) {
      on.show(() => parts(list));
    },
  };
}
