// @ts-check
// Tables: sortable, and rows are kept by key, so that a refresh takes no focus and no click away.

import { h, shown } from './dom.js';

/** @import { Child } from './dom.js' */

/**
 * A column: what it shows is made once per row (`node`) or written anew with each refresh (`text`).
 * @template R
 * @typedef {object} Column
 * @property {string} name
 * @property {boolean} [n] numbers: they stand to the right
 * @property {boolean} [act] buttons
 * @property {(row: R) => any} [by] what the rows are sorted by
 * @property {(row: R) => any} [text]
 * @property {(row: R) => Child | Child[]} [node]
 * @property {(row: R) => ?string} [kind] class of a cell, such as `bad`
 */

/**
 * @template R
 * @typedef {object} Options
 * @property {(row: R) => any} key tells rows apart
 * @property {string} empty stands in place of a table without rows
 * @property {string} caption for screen readers
 * @property {number} [sort] number of the column that sorts at first, from 1; negative for the largest first
 * @property {boolean} [tall] it may be long: it scrolls by itself
 */

/**
 * @template R
 * @param {R[]} rows
 * @param {(row: R) => any} by
 * @param {boolean} down
 */
function sorted(rows, by, down) {
  return [...rows].sort((a, b) => {
    const [x, y] = [by(a), by(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  });
}

/**
 * @template R
 * @param {Column<R>[]} columns
 * @param {R} row
 */
function made(columns, row) {
  return h('tr', {}, columns.map((c) => {
    const cell = h('td', { class: c.n ? 'n' : c.act ? 'act' : null });
    if (c.node) cell.append(...shown([c.node(row)]));
    return cell;
  }));
}

/**
 * @template R
 * @param {HTMLTableRowElement} tr
 * @param {Column<R>[]} columns
 * @param {R} row
 */
function write(tr, columns, row) {
  columns.forEach((c, i) => {
    if (!c.text) return;
    const text = String(c.text(row));
    if (tr.cells[i].textContent !== text) tr.cells[i].textContent = text;
    if (c.kind) tr.cells[i].className = `${c.n ? 'n ' : ''}${c.kind(row) ?? ''}`;
  });
}

/**
 * @template R
 * @param {Column<R>[]} columns
 * @param {Options<R>} options
 * @returns {{ node: HTMLElement, set: (rows: R[]) => void }}
 */
export function table(columns, { key, empty, caption, sort = 0, tall = false }) {
  let by = Math.abs(sort) - 1;
  let down = sort < 0;
  /** @type {R[]} */
  let rows = [];
  /** @type {Map<any, HTMLTableRowElement>} */
  const kept = new Map();
  const body = h('tbody', {});
  const head = (/** @type {Column<R>} */ c, /** @type {number} */ i) => {
    const sortBy = () => {
      down = by === i ? !down : true;
      by = i;
      show();
    };
    return h('th', { class: c.n ? 'n' : null, scope: 'col' },
      c.by ? h('button', { type: 'button', onclick: sortBy }, c.name) : c.name);
  };
  const heads = columns.map(head);
  const box = h('div', { class: tall ? 'scroll tall' : 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {}, h('thead', {}, h('tr', {}, heads)), body));
  const none = h('p', { class: 'soft' }, empty);

  function show() {
    const order = columns[by]?.by;
    if (order) rows = sorted(rows, order, down);
    heads.forEach((th, i) => {
      if (i === by) th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else th.removeAttribute('aria-sort');
    });
    const live = new Set();
    rows.forEach((row, place) => {
      const id = key(row);
      live.add(id);
      const tr = kept.get(id) ?? made(columns, row);
      kept.set(id, tr);
      write(tr, columns, row);
      if (body.children[place] !== tr) body.insertBefore(tr, body.children[place] ?? null);
    });
    for (const [id, tr] of kept) {
      if (!live.has(id)) {
        tr.remove();
        kept.delete(id);
      }
    }
    box.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
  }
  show();
  return {
    node: h('div', {}, box, none),
    set(list) {
      rows = list;
      show();
    },
  };
}
