// @ts-check
// Configuration: the caller's candidate, commits, and what runs.

import { act, button, wordsOf } from '../act.js';
import { api, get } from '../api.js';
import { form, h } from '../dom.js';
import { table } from '../table.js';
import { clock, now } from '../text.js';

/** @import { Commits, Done, Revision } from '../api.js' */
/** @import { Screen } from '../app.js' */
/** @import { Column } from '../table.js' */

/** @type {Column<Revision>[]} */
const COMMITS = [
  { name: 'Revision', n: true, by: (c) => c.revision, text: (c) => c.revision },
  { name: 'When', text: (c) => clock(c.time) },
  { name: 'Who', text: (c) => c.user },
  { name: 'Why', text: (c) => c.comment ?? '' },
];

function editForm() {
  const words = h('input', { name: 'words', placeholder: 'set hostgroup global threshold_pps 20000', size: 50 });
  const edit = async () => {
    const [verb, ...rest] = words.value.trim().split(/\s+/);
    const done = await api('POST', 'config/edit', { verb, words: rest });
    words.value = '';
    return done;
  };
  return form(() => act(edit), h('label', {}, 'Edit', words), h('button', {}, 'Do'));
}

function commitForm() {
  const minutes = h('input', { type: 'number', min: 1, max: 1440, placeholder: 'for good', name: 'minutes' });
  const comment = h('input', { name: 'comment', maxlength: 200 });
  const commit = () => {
    const confirmed_minutes = minutes.value ? Number(minutes.value) : null;
    return api('POST', 'config/commit', { confirmed_minutes, comment: comment.value || null });
  };
  return form(() => act(commit), h('label', {}, 'Take back after minutes', minutes),
    h('label', {}, 'Comment', comment), h('button', { class: 'main' }, 'Commit'),
    button('Check', () => api('POST', 'config/commit', { check: true })),
    button('Confirm', () => api('POST', 'config/confirm')));
}

function rollbackForm() {
  const back = h('input', { type: 'number', min: 0, max: 50, value: 1, name: 'back' });
  const rollBack = () => api('POST', 'config/rollback', { back: Number(back.value) });
  return form(() => act(rollBack), h('label', {}, 'Commits back (0 drops edits)', back), h('button', {}, 'Roll back'));
}

/** A line of a unified diff. @param {string} row */
function difference(row) {
  const kind = row.startsWith('+') ? 'good' : row.startsWith('-') ? 'bad' : null;
  return h('span', { class: kind }, `${row}\n`);
}

/** What the caller's candidate changes; whoever has none is told why. */
async function comparison() {
  try {
    /** @type {Done} */
    const done = await get('config/compare');
    return done.text;
  } catch (error) {
    return wordsOf(error);
  }
}

/**
 * @param {HTMLElement} root
 * @returns {Screen}
 */
export function config(root) {
  const diff = h('pre', {});
  const left = h('p', { class: 'alert' });
  const running = h('pre', {});
  const commits = table(COMMITS, { key: (c) => c.revision, empty: 'no commits', sort: -1, caption: 'Commits' });
  let deadline = 0;
  root.append(h('h1', {}, 'Configuration'), left, h('h2', {}, 'Your candidate'), diff,
    editForm(), commitForm(), rollbackForm(),
    h('h2', {}, 'Commits'), commits.node, h('h2', {}, 'Running'), running);
  return {
    async load() {
      /** @type {[Done, Commits]} */
      const [runs, past] = await Promise.all([get('config/running'), get('config/history')]);
      running.textContent = runs.text || '(all defaults)';
      commits.set(past.commits);
      deadline = past.unconfirmed?.deadline ?? 0;
      const text = await comparison();
      diff.replaceChildren(...text.split('\n').map(difference));
    },
    tick() {
      const seconds = deadline - now();
      left.hidden = seconds <= 0;
      const text = `The commit is taken back in ${Math.round(seconds)} s unless you confirm it.`;
      left.textContent = seconds > 0 ? text : '';
    },
  };
}
