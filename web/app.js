// @ts-check
// The dashboard: screens over /api/v1. No library, no build, no request to anybody but the daemon that served it.
// This is the frame: which screen is shown, the lights at the top, and keys.
// Types are in comments; whoever has TypeScript checks them with: tsc -p web/jsconfig.json

import { needsLogin, refreshWith, say, wordsOf } from './act.js';
import { h } from './dom.js';
import { listen, newest, tell } from './live.js';
import { approvals } from './screens/approvals.js';
import { attack } from './screens/attack.js';
import { attacks } from './screens/attacks.js';
import { audit } from './screens/audit.js';
import { config } from './screens/config.js';
import { exporters } from './screens/exporters.js';
import { groups } from './screens/groups.js';
import { host } from './screens/host.js';
import { hosts } from './screens/hosts.js';
import { login } from './screens/login.js';
import { overview } from './screens/overview.js';
import { rules } from './screens/rules.js';
import { whoAmI } from './session.js';
import { many } from './text.js';

/** @import { Entry, Tick } from './api.js' */
/** @import { Rates } from './live.js' */

/**
 * What is shown: its nodes are made once, and then written anew.
 * @typedef {object} Screen
 * @property {() => Promise<void>} [load] asks the daemon again
 * @property {number} [every] ticks until it is asked again
 * @property {(tick: Tick, rates: ?Rates) => void} [tick]
 * @property {(entry: Entry) => void} [entry]
 */

/**
 * A place of the navigation.
 * @typedef {object} Place
 * @property {string} path behind `#/`
 * @property {string} name
 * @property {(root: HTMLElement) => Screen} all
 * @property {(root: HTMLElement, name: string) => Screen} [one] with a name behind the path
 */

/** @type {Place[]} */
const PLACES = [
  { path: '', name: 'Overview', all: overview },
  { path: 'hosts', name: 'Hosts', all: hosts, one: host },
  { path: 'attacks', name: 'Attacks', all: attacks, one: attack },
  { path: 'rules', name: 'Rules', all: rules },
  { path: 'approvals', name: 'Approvals', all: approvals },
  { path: 'exporters', name: 'Exporters', all: exporters },
  { path: 'groups', name: 'Groups', all: (root) => groups(root, null), one: groups },
  { path: 'config', name: 'Config', all: config },
  { path: 'audit', name: 'Audit', all: audit },
];

const main = /** @type {HTMLElement} */ (document.getElementById('main'));
const nav = /** @type {HTMLElement} */ (document.getElementById('nav'));
const lights = /** @type {HTMLElement} */ (document.getElementById('lights'));
const links = PLACES.map((p, i) => h('a', { href: `#/${p.path}`, accesskey: i + 1 }, p.name));
nav.append(...links);

/** @type {Screen} */
let screen = {};
let ticks = 0;

async function refresh() {
  await screen.load?.();
}

/**
 * The screen that the address names; the overview where it names none.
 * @param {string} path
 * @param {?string} name
 */
function screenOf(path, name) {
  if (path === 'login') return login(main);
  const place = PLACES.find((p) => p.path === path) ?? PLACES[0];
  return name && place.one ? place.one(main, name) : place.all(main);
}

async function open() {
  const [path, ...rest] = location.hash.replace(/^#\//, '').split('/');
  const name = rest.length ? decodeURIComponent(rest.join('/')) : null;
  const place = PLACES.findIndex((p) => p.path === path);
  links.forEach((a, i) => {
    if (i === place) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  });
  main.replaceChildren();
  document.title = `${PLACES[place]?.name ?? 'Log in'} – Floodwall`;
  ticks = 0;
  screen = screenOf(path, name);
  const last = newest();
  if (last.tick) screen.tick?.(last.tick, last.rates);
  try {
    await refresh();
  } catch (error) {
    if (needsLogin(error)) location.hash = '#/login';
    else say(wordsOf(error), true);
  }
}

/**
 * @param {string} kind `good`, `warn` or `bad`
 * @param {string} text
 */
const light = (kind, text) => h('span', { class: `light ${kind}` }, text);

/** @param {Tick} t */
function modeOf(t) {
  if (t.halted) return light('bad', 'withdrawn everywhere');
  return t.dry_run ? light('warn', 'dry run') : light('good', 'announcing');
}

/**
 * @param {Tick} t
 * @param {?Rates} rates
 */
function tick(t, rates) {
  ticks += 1;
  const attacked = t.attacks.length ? light('bad', many(t.attacks.length, 'attack')) : light('good', 'no attack');
  lights.replaceChildren(modeOf(t), attacked);
  screen.tick?.(t, rates);
  if (screen.every && ticks % screen.every === 0) refresh().catch(() => {});
}

/** Digits choose a screen, a slash searches a host. @param {KeyboardEvent} e */
function key(e) {
  const typing = e.target instanceof Element && /INPUT|SELECT|TEXTAREA/.test(e.target.tagName);
  if (e.ctrlKey || e.altKey || e.metaKey || typing) return;
  if (e.key === '/') {
    e.preventDefault();
    location.hash = '#/hosts';
    setTimeout(() => document.getElementById('search')?.focus(), 50);
  }
  const place = PLACES[Number(e.key) - 1];
  if (place) location.hash = `#/${place.path}`;
}

refreshWith(refresh);
tell({
  tick,
  entry: (e) => screen.entry?.(e),
  lost: () => lights.replaceChildren(light('bad', 'not connected')),
});
addEventListener('hashchange', open);
addEventListener('keydown', key);
whoAmI();
listen();
open();
