// The dashboard: screens over /api/v1. No library, no build, no request to anybody but the daemon that served it.

// ---- Elements ----

/** An element: attributes, `on...` listeners, children as texts or nodes. Text is never parsed as HTML. */
function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((c) => c != null));
  return node;
}

function s(tag, attributes) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// ---- Numbers for people ----

function scaled(n, unit) {
  const steps = ['', 'k', 'M', 'G', 'T'];
  let i = 0;
  while (Math.abs(n) >= 1000 && i < steps.length - 1) { n /= 1000; i += 1; }
  return `${n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)} ${steps[i]}${unit}`;
}
const pps = (n) => scaled(n, 'p/s');
const bps = (bytes) => scaled(bytes * 8, 'b/s');
const share = (x) => (x == null ? 'unknown' : `${(x * 100).toFixed(x < 0.01 ? 2 : 1)} %`);
const two = (n) => String(n).padStart(2, '0');
const hour = (t) => { const d = new Date(t * 1000); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
const day = (t) => { const d = new Date(t * 1000); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; };
const clock = (t) => `${day(t)} ${hour(t)}`;
const many = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;
function span(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

// ---- The daemon ----

async function api(method, path, body) {
  const answer = await fetch(`/api/v1/${path}`, {
    method,
    headers: { 'x-floodwall': '1', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const value = await answer.json().catch(() => null);
  if (!answer.ok) {
    const error = new Error(value?.error ?? `the daemon answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return value;
}
const get = (path) => api('GET', path);

const notice = document.getElementById('notice');
let hide;
function say(text, bad) {
  notice.textContent = text;
  notice.className = bad ? 'bad' : '';
  notice.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => { notice.hidden = true; }, bad ? 15000 : 6000);
}

/** Does something, says what came of it, and shows the screen anew. */
async function act(doing) {
  try {
    const done = await doing();
    if (done?.text) say(done.text);
    await refresh();
  } catch (error) {
    if (error.status === 401) location.hash = '#/login';
    say(error.message, true);
  }
}
const button = (text, doing, kind, label) =>
  h('button', { type: 'button', class: kind, 'aria-label': label, onclick: () => act(doing) }, text);

// ---- Tables: sortable, rows kept by key so that a refresh takes no focus and no click away ----

function table(columns, { key, empty, sort, caption, tall }) {
  let by = sort ? Math.abs(sort) - 1 : -1;
  let down = sort < 0;
  let rows = [];
  const kept = new Map();
  const body = h('tbody', {});
  const heads = columns.map((c, i) => h('th', { class: c.n ? 'n' : null, scope: 'col' },
    c.by ? h('button', { type: 'button', onclick: () => { down = by === i ? !down : true; by = i; show(); } }, c.name) : c.name));
  const box = h('div', { class: tall ? 'scroll tall' : 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {}, h('thead', {}, h('tr', {}, heads)), body));
  const none = h('p', { class: 'soft' }, empty);
  function show() {
    if (by >= 0) {
      const of = columns[by].by;
      rows = [...rows].sort((a, b) => {
        const [x, y] = [of(a), of(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
    }
    heads.forEach((head, i) => (i === by ? head.setAttribute('aria-sort', down ? 'descending' : 'ascending') : head.removeAttribute('aria-sort')));
    const live = new Set();
    rows.forEach((row, place) => {
      const id = key(row);
      live.add(id);
      let tr = kept.get(id);
      if (!tr) {
        tr = h('tr', {}, columns.map((c) => h('td', { class: c.n ? 'n' : c.act ? 'act' : null })));
        columns.forEach((c, i) => { if (c.node) tr.children[i].append(...[c.node(row)].flat()); });
        kept.set(id, tr);
      }
      columns.forEach((c, i) => {
        if (c.node) return;
        const text = String(c.text(row));
        if (tr.children[i].textContent !== text) tr.children[i].textContent = text;
        if (c.kind) tr.children[i].className = `${c.n ? 'n ' : ''}${c.kind(row) ?? ''}`;
      });
      if (body.children[place] !== tr) body.insertBefore(tr, body.children[place] ?? null);
    });
    for (const [id, tr] of kept) if (!live.has(id)) { tr.remove(); kept.delete(id); }
    box.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
  }
  show();
  return { node: h('div', {}, box, none), set(list) { rows = list; show(); } };
}

// ---- Charts: two lines over time, with axes and what stands under the pointer ----

/** A round number at or above n: 1, 2 or 5 times a power of ten. */
function round(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 5, 10].map((f) => f * power).find((r) => r >= n);
}

/** Places of a time axis: at most `count`, on whole minutes, hours or days. */
function moments(first, last, count) {
  const steps = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800];
  const step = steps.find((size) => (last - first) / size <= count) ?? 2592000;
  const shift = new Date(first * 1000).getTimezoneOffset() * 60;
  const places = [];
  for (let t = Math.ceil((first - shift) / step) * step + shift; t <= last; t += step) places.push(t);
  return { step, places };
}
const moment = (t, step) => (step >= 86400 ? day(t).slice(5) : step >= 60 ? hour(t).slice(0, 5) : hour(t));

const LEFT = 64;
const BELOW = 20;

function frame(caption, height, left = LEFT) {
  const svg = s('svg', { class: 'chart', role: 'img', 'aria-label': caption, height });
  const box = h('div', { class: 'chartbox' });
  box.append(svg);
  let draw = () => {};
  const width = () => Math.max(240, box.clientWidth);
  new ResizeObserver(() => draw()).observe(box);
  const time = (first, last) => {
    const right = width() - 8;
    const x = (t) => left + (right - left) * (t - first) / Math.max(1, last - first);
    const { step, places } = moments(first, last, Math.max(2, Math.floor(width() / 110)));
    const marks = places.flatMap((t) => {
      const text = s('text', { x: Math.min(x(t), right - 22), y: height - 5, 'text-anchor': 'middle' });
      text.textContent = moment(t, step);
      return [s('line', { class: 'grid', x1: x(t), x2: x(t), y1: 4, y2: height - BELOW }), text];
    });
    return { x, marks };
  };
  return { svg, box, width, time, height, set(with_) { draw = with_; draw(); } };
}

function chart(caption, unit) {
  const f = frame(caption, 190);
  const key = h('p', { class: 'legend' });
  const read = h('span', { class: 'soft' });
  key.append(h('i', { class: 'in' }, 'incoming'), h('i', { class: 'out' }, 'outgoing'), read);
  const none = h('p', { class: 'soft empty' }, 'nothing yet');
  let all = [];
  let place = null;
  f.svg.addEventListener('pointermove', (e) => {
    if (!place || !all.length) return;
    const at = place(e.clientX - f.svg.getBoundingClientRect().left);
    const p = all.reduce((best, q) => (Math.abs(q.time - at) < Math.abs(best.time - at) ? q : best));
    read.textContent = `${clock(p.time)}: in ${unit(p.in)}, out ${unit(p.out)}`;
  });
  f.svg.addEventListener('pointerleave', () => { read.textContent = summary(); });
  const summary = () => (all.length ? `highest ${unit(Math.max(...all.map((p) => Math.max(p.in, p.out))))}` : '');
  return {
    node: h('figure', {}, h('figcaption', {}, caption), f.box, none, key),
    set(points, incoming, outgoing, step = 0, limit = null) {
      all = points.map((p) => ({ time: p.time, in: incoming(p), out: outgoing(p) }));
      none.hidden = all.length > 1;
      f.box.hidden = !none.hidden;
      key.hidden = f.box.hidden;
      if (f.box.hidden) return;
      read.textContent = summary();
      f.set(() => {
        const top = round(Math.max(1, limit ?? 0, ...all.map((p) => Math.max(p.in, p.out))));
        const [first, last] = [all[0].time, all[all.length - 1].time];
        const { x, marks } = f.time(first, last);
        place = (px) => first + (last - first) * (px - LEFT) / Math.max(1, f.width() - 8 - LEFT);
        const y = (v) => 6 + (f.height - BELOW - 6) * (1 - v / top);
        const rows = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => {
          const text = s('text', { x: LEFT - 6, y: y(top * part) + 4, 'text-anchor': 'end' });
          text.textContent = unit(top * part);
          return [s('line', { class: 'grid', x1: LEFT, x2: f.width() - 8, y1: y(top * part), y2: y(top * part) }), text];
        });
        // Where nothing was counted the line has a gap.
        const line = (of) => all.map((p, i) => `${i && (!step || p.time - all[i - 1].time <= 3 * step) ? 'L' : 'M'}${x(p.time).toFixed(1)},${y(p[of]).toFixed(1)}`).join('');
        const area = `M${x(first)},${y(0)}L${all.map((p) => `${x(p.time).toFixed(1)},${y(p.in).toFixed(1)}`).join('L')}L${x(last)},${y(0)}Z`;
        const threshold = limit ? [s('line', { class: 'limit', x1: LEFT, x2: f.width() - 8, y1: y(limit), y2: y(limit) })] : [];
        f.svg.setAttribute('width', f.width());
        f.svg.replaceChildren(...marks, ...rows, s('path', { class: 'area', d: area }), s('path', { class: 'out', d: line('out') }), s('path', { class: 'in', d: line('in') }), ...threshold);
      });
    },
  };
}

/** Attacks as bars over the last day, one row per target. */
function timeline() {
  const f = frame('Attacks of the last day', 170, 150);
  return {
    node: f.box,
    set(list) {
      f.set(() => {
        const now = Date.now() / 1000;
        const { x, marks } = f.time(now - 86400, now);
        const rows = [...new Set(list.map((a) => a.prefix))];
        const height = Math.min(18, (f.height - BELOW - 10) / Math.max(1, rows.length));
        const bars = list.map((a) => {
          const at = x(Math.max(now - 86400, a.detected));
          const y = 6 + rows.indexOf(a.prefix) * height;
          const link = s('a', { href: `#/attacks/${encodeURIComponent(a.id)}` });
          const bar = s('rect', { class: level(a.severity), x: at, y, width: Math.max(3, x(a.ended ?? now) - at), height: Math.max(2, height - 3), rx: 2 });
          const title = s('title', {});
          title.textContent = `${a.prefix} ${a.direction}, ×${a.severity.toFixed(1)}, ${clock(a.detected)}, ${a.ended ? span(a.ended - a.detected) : 'goes on'}`;
          bar.append(title);
          link.append(bar);
          return link;
        });
        f.svg.setAttribute('width', f.width());
        const names = height < 9 ? [] : rows.map((prefix, i) => {
          const text = s('text', { x: 142, y: 6 + i * height + height / 2 + 2, 'text-anchor': 'end' });
          text.textContent = prefix.replace(/\/(32|128)$/, '').slice(0, 24);
          return text;
        });
        f.svg.replaceChildren(...marks, ...names, ...bars);
      });
    },
  };
}
const inBytes = (p) => p.bytes_per_second_in;
const outBytes = (p) => p.bytes_per_second_out;
const inPackets = (p) => p.packets_per_second_in;
const outPackets = (p) => p.packets_per_second_out;

function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value ?? '')]));
}

const level = (x) => (x < 2 ? 'low' : x < 5 ? 'middle' : 'high');
function severity(x) {
  return h('span', { class: `badge ${level(x)}`, title: `${x.toFixed(1)} times the threshold` }, `${level(x)} ×${x.toFixed(1)}`);
}
const attackLink = (a) => h('a', { href: `#/attacks/${encodeURIComponent(a.id)}` }, a.prefix);
const hostLink = (prefix) => h('a', { href: `#/hosts/${encodeURIComponent(prefix.replace(/\/(32|128)$/, ''))}` }, prefix);

// ---- Screens: each builds its nodes once; `tick` gets what changes each second, `load` asks again ----

let rates = null;
let last = null;

function overview(root) {
  const names = ['Incoming', 'Incoming packets', 'Outgoing', 'Active hosts', 'Attacks', 'To approve', 'Rules', 'BGP sessions', 'Exporters'];
  const values = names.map(() => h('b', {}, '–'));
  const traffic = chart('Traffic of the last hour', bps);
  const packets = chart('Packets of the last hour', pps);
  const attacks = attackTable('no attack in progress');
  const events = h('div', { class: 'panel', role: 'log', 'aria-label': 'Events' });
  const warnings = h('div', {});
  root.append(h('h1', {}, 'Overview'), warnings, h('div', { class: 'cards' }, names.map((n, i) => h('div', { class: 'card' }, h('span', {}, n), values[i]))),
    h('h2', {}, 'Traffic'), h('div', { class: 'two' }, traffic.node, packets.node), h('h2', {}, 'Attacks in progress'), attacks.node, h('h2', {}, 'Events'), events);
  const add = (time, text) => {
    events.prepend(line(time, text));
    while (events.children.length > 100) events.lastChild.remove();
  };
  return {
    async load() {
      const [series, past] = await Promise.all([get('history/series?name=total&seconds=3600'), get('history/events?limit=30')]);
      traffic.set(series.points, inBytes, outBytes, series.step);
      packets.set(series.points, inPackets, outPackets, series.step);
      events.replaceChildren();
      past.forEach((e) => add(e.time, phrase(e.entry)));
    },
    every: 10,
    tick(t) {
      const waiting = t.mitigations.filter((m) => m.awaits_approval).length;
      const up = t.peers.filter((p) => p.state === 'established').length;
      const quiet = t.exporters.filter((e) => e.silent_seconds > 60).length;
      const shown = [rates ? bps(rates.bytesIn) : '–', rates ? pps(rates.packetsIn) : '–', rates ? bps(rates.bytesOut) : '–', t.active_hosts, t.attacks.length,
        waiting, t.mitigations.length, `${up} of ${t.peers.length}`, quiet ? `${t.exporters.length} (${quiet} silent)` : t.exporters.length];
      shown.forEach((v, i) => { values[i].textContent = v; });
      values[4].className = t.attacks.length ? 'bad' : '';
      values[5].className = waiting ? 'warn' : '';
      values[7].className = up < t.peers.length ? 'bad' : '';
      values[8].className = quiet ? 'bad' : '';
      attacks.set(t.attacks);
      warnings.replaceChildren(...t.warnings.map((w) => h('p', { class: 'alert', role: 'alert' }, w)));
    },
    entry(e) { add(e.time, phrase(e)); },
  };
}

const line = (time, text) => h('div', { class: 'line' }, h('time', {}, clock(time)), h('span', {}, text));

/** An event in words. */
function phrase(e) {
  const who = e.target ? ` ${e.target.prefix} ${e.target.direction}` : '';
  const what = e.route ?? e.threshold ?? e.verdict ?? e.reason ?? e.owner ?? '';
  const more = [e.rate, e.action, e.peer && `peer ${e.peer}`, e.advice, e.text].filter(Boolean).join('; ');
  return `${e.event.replaceAll('_', ' ')}${who}${what ? `: ${what}` : ''}${more ? ` (${more})` : ''}`;
}

function attackTable(empty) {
  return table([
    { name: 'Severity', by: (a) => a.severity, node: (a) => severity(a.severity) },
    { name: 'Target', by: (a) => a.prefix, node: attackLink },
    { name: 'Direction', text: (a) => a.direction },
    { name: 'Group', text: (a) => a.group },
    { name: 'Over', text: (a) => a.threshold },
    { name: 'Since', by: (a) => a.detected, text: (a) => clock(a.detected) },
    { name: 'Packets', n: true, by: (a) => a.packets_per_second, text: (a) => pps(a.packets_per_second) },
    { name: 'Traffic', n: true, by: (a) => a.bytes_per_second, text: (a) => bps(a.bytes_per_second) },
  ], { key: (a) => a.id, empty, sort: -7, caption: 'Attacks in progress' });
}

function hosts(root) {
  const order = h('select', {}, ['packets', 'bytes'].map((o) => h('option', {}, o)));
  const way = h('select', {}, ['incoming', 'outgoing'].map((o) => h('option', {}, o)));
  const find = h('input', { type: 'search', placeholder: 'an own address', id: 'search' });
  const list = table([
    { name: 'Host', by: (r) => r.host, node: (r) => hostLink(r.host) },
    { name: 'Group', text: (r) => r.group ?? '' },
    { name: 'In packets', n: true, by: (r) => r.packets_per_second, text: (r) => pps(r.packets_per_second) },
    { name: 'In traffic', n: true, by: (r) => r.bytes_per_second, text: (r) => bps(r.bytes_per_second) },
    { name: 'Out packets', n: true, by: (r) => r.outgoing_packets_per_second, text: (r) => pps(r.outgoing_packets_per_second) },
    { name: 'Out traffic', n: true, by: (r) => r.outgoing_bytes_per_second, text: (r) => bps(r.outgoing_bytes_per_second) },
  ], { key: (r) => r.host, empty: 'no host has traffic', caption: 'Hosts by traffic' });
  const screen = {
    async load() {
      list.set((await get(`hosts?order=${order.value}&direction=${way.value}&limit=200`)).value);
    },
    every: 2,
  };
  order.onchange = way.onchange = () => act(screen.load);
  root.append(h('h1', {}, 'Hosts'), h('form', { onsubmit: (e) => { e.preventDefault(); if (find.value) location.hash = `#/hosts/${encodeURIComponent(find.value.trim())}`; } },
    h('label', {}, 'Sorted by', order), h('label', {}, 'Direction', way), h('label', {}, 'One host', find), h('button', { class: 'main' }, 'Show')), list.node);
  return screen;
}

function host(root, address) {
  const now = h('div', { class: 'panel' });
  const range = h('select', { 'aria-label': 'Time' }, [['1 hour', 3600], ['1 day', 86400], ['1 week', 604800], ['1 month', 2592000]].map(([t, v]) => h('option', { value: v }, t)));
  const packets = chart('Packets', pps);
  const bytes = chart('Traffic', bps);
  const past = pastTable('no attack on record');
  root.append(h('h1', {}, `Host ${address}`), now, h('h2', {}, 'History'), h('p', {}, range), h('div', { class: 'two' }, packets.node, bytes.node), h('h2', {}, 'Attacks'), past.node);
  const screen = {
    async load() {
      const prefix = `${address}/${address.includes(':') ? 128 : 32}`;
      const [counters, series, attacks] = await Promise.all([get(`hosts/${encodeURIComponent(address)}`),
        get(`history/series?name=${encodeURIComponent(`host ${address}`)}&seconds=${range.value}`),
        get(`history/attacks?prefix=${encodeURIComponent(prefix)}`)]);
      now.replaceChildren(h('pre', {}, counters.text));
      packets.set(series.points, inPackets, outPackets, series.step);
      bytes.set(series.points, inBytes, outBytes, series.step);
      past.set(attacks);
    },
    every: 5,
  };
  range.onchange = () => act(screen.load);
  return screen;
}

function pastTable(empty) {
  return table([
    { name: 'Severity', by: (a) => a.severity, node: (a) => severity(a.severity) },
    { name: 'Target', by: (a) => a.prefix, node: attackLink },
    { name: 'Direction', text: (a) => a.direction },
    { name: 'Over', text: (a) => a.threshold },
    { name: 'Detected', by: (a) => a.detected, text: (a) => clock(a.detected) },
    { name: 'Lasted', by: (a) => (a.ended ?? 1e12) - a.detected, text: (a) => (a.ended ? span(a.ended - a.detected) : 'goes on'), kind: (a) => (a.ended ? null : 'bad') },
    { name: 'Peak packets', n: true, by: (a) => a.peak_packets_per_second, text: (a) => pps(a.peak_packets_per_second) },
    { name: 'Peak traffic', n: true, by: (a) => a.peak_bytes_per_second, text: (a) => bps(a.peak_bytes_per_second) },
  ], { key: (a) => a.id + (a.ended ? 'x' : ''), empty, sort: -5, caption: 'Attacks on record' });
}

function attacks(root) {
  const live = attackTable('no attack in progress');
  const past = pastTable('no attack on record');
  const bars = timeline();
  root.append(h('h1', {}, 'Attacks'), live.node, h('h2', {}, 'The last day'), bars.node, h('h2', {}, 'On record'), past.node);
  return {
    async load() {
      const all = await get('history/attacks?limit=200');
      past.set(all);
      bars.set(all.filter((a) => (a.ended ?? Infinity) > Date.now() / 1000 - 86400));
    },
    every: 5,
    tick(t) { live.set(t.attacks); },
  };
}

const PROTOCOLS = { 1: 'icmp', 6: 'tcp', 17: 'udp', 47: 'gre', 58: 'icmpv6' };

function attack(root, id) {
  const path = `history/attacks/${encodeURIComponent(id)}`;
  const cards = h('div', { class: 'cards' });
  const head = h('div', { class: 'panel' });
  const curve = chart('Packets around the attack', pps);
  const candidates = table([
    { name: 'Rule', text: (c) => c.rule },
    { name: 'Covers packets', n: true, by: (c) => c.coverage, text: (c) => share(c.coverage) },
    { name: 'Covers bytes', n: true, by: (c) => c.coverage_bytes, text: (c) => share(c.coverage_bytes) },
    { name: 'Ordinary traffic hit', n: true, by: (c) => c.collateral ?? -1, text: (c) => share(c.collateral), kind: (c) => (c.collateral > 0.01 ? 'warn' : null) },
    { name: 'Why', text: (c) => c.reason, kind: (c) => (c.reason === 'chosen' ? 'good' : null) },
  ], { key: (c) => c.rule, empty: 'no sample was mined yet', caption: 'Candidates' });
  const facets = h('div', { class: 'facets' });
  const sample = table([
    { name: 'Time', by: (r) => r.time, text: (r) => hour(r.time) },
    { name: 'From', by: (r) => r.source, text: (r) => `${r.source}:${r.source_port}` },
    { name: 'To', by: (r) => r.destination, text: (r) => `${r.destination}:${r.destination_port}` },
    { name: 'Protocol', by: (r) => r.protocol, text: (r) => PROTOCOLS[r.protocol] ?? r.protocol },
    { name: 'Length', n: true, by: (r) => r.length, text: (r) => r.length },
    { name: 'Flags', text: (r) => (r.protocol === 6 ? ['F', 'S', 'R', 'P', 'A', 'U'].filter((_, i) => r.tcp_flags >> i & 1).join('') : '') },
    { name: 'Stands for', n: true, by: (r) => r.packets, text: (r) => scaled(r.packets, 'p') },
  ], { key: (r) => r.row, empty: 'no sample is kept of this attack', caption: 'Sample', tall: true });
  const log = h('div', { class: 'panel log' });
  const save = (what, text) => h('a', { class: 'button', href: `/api/v1/${path}${what}`, download: '' }, text);
  const forgive = button('False positive', async () => {
    if (!confirm('Whitelist this traffic at this host for 30 days and withdraw what was announced against it?')) return null;
    return api('POST', `${path}/false_positive`, { reason: 'false positive, dashboard' });
  }, 'bad');
  const title = h('h1', {}, 'Attack');
  root.append(h('div', { class: 'title' }, title, h('span', { class: 'tools' }, save('/pcap', 'Sample as pcap'), save('/cases', 'Evidence as JSON'), save('', 'Report as JSON'), forgive)),
    cards, head, h('h2', {}, 'Evidence'), curve.node, h('h2', {}, 'Candidates'), candidates.node,
    h('h2', {}, 'What was done and why'), log, h('h2', {}, 'Sample'), facets, sample.node);
  let seen = -1;
  async function loadSample() {
    const page = await get(`${path}/sample`);
    if (page.count === seen) return;
    seen = page.count;
    const named = { source_ports: 'Source ports', destination_ports: 'Destination ports', remote: 'Remote ends', protocols: 'Protocols', lengths: 'Lengths', exporters: 'Exporters', interfaces: 'Interfaces' };
    facets.replaceChildren(...Object.entries(named).filter(([key]) => page.facets[key]?.length).map(([key, name]) => h('div', { class: 'facet' }, h('h3', {}, name),
      page.facets[key].slice(0, 6).map((f) => h('div', { class: 'bar', style: null }, h('meter', { min: 0, max: 1, value: f.share }), h('span', {}, `${f.value}`), h('span', { class: 'soft' }, share(f.share)))))));
    sample.set(page.samples.slice(0, 200).map((r, row) => ({ ...r, row })));
  }
  return {
    async load() {
      const page = await get(path);
      const a = page.attack;
      const alarm = page.events.find((e) => e.kind === 'alarm')?.entry;
      const mined = page.events.filter((e) => e.kind === 'candidates').map((e) => e.entry);
      title.replaceChildren('Attack on ', hostLink(a.prefix));
      cards.replaceChildren(...[['Severity', severity(a.severity)], ['State', a.ended ? `over after ${span(a.ended - a.detected)}` : h('span', { class: 'bad' }, `for ${span(Date.now() / 1000 - a.detected)}`)],
        ['Peak packets', pps(a.peak_packets_per_second)], ['Peak traffic', bps(a.peak_bytes_per_second)], ['Direction', a.direction], ['Host group', a.group]]
        .map(([name, value]) => h('div', { class: 'card' }, h('span', {}, name), h('b', {}, value))));
      head.replaceChildren(facts([
        ['Threshold', a.threshold], ['Detected', clock(a.detected)], ['Ended', a.ended ? clock(a.ended) : 'goes on'],
        ['Rests on', alarm ? `${alarm.rate} from ${alarm.evidence.observed} observations in ${alarm.evidence.window_ms} ms, certainly above ${scaled(alarm.evidence.lower_bound, '/s')}` : 'unknown'],
        ['Verdict', [...new Set(mined.map((m) => m.verdict))].join('; ') || 'not mined yet'],
      ]));
      const limit = /of (\d+) packets/.exec(a.threshold);
      curve.set(page.series.points, inPackets, outPackets, page.series.step, limit ? Number(limit[1]) : null);
      candidates.set(mined.findLast((m) => m.ranking.length)?.ranking ?? []);
      log.replaceChildren(...page.events.filter((e) => e.kind !== 'candidates').map((e) => line(e.time, phrase(e.entry))));
      await loadSample();
    },
    every: 3,
  };
}

const why = (m) => (m.dry_run ? m.dry_run.replaceAll('_', ' ') : m.sent_to.length ? `sent to ${m.sent_to.join(', ')}` : 'not sent yet');
const kindPath = (m) => (m.kind === 'flowspec' ? 'rules' : 'blackholes');

function ruleColumns(actions) {
  return [
    { name: 'Kind', by: (m) => m.kind, text: (m) => m.kind },
    { name: 'Route', by: (m) => m.route, text: (m) => m.route },
    { name: 'Action', text: (m) => m.action },
    { name: 'Origin', text: (m) => (m.order ? `${m.order.owner}${m.order.reason ? `: ${m.order.reason}` : ''}` : `mined, covers ${share(m.coverage)}`) },
    { name: 'State', text: (m) => [why(m), ...Object.entries(m.not_sent).map(([p, t]) => `not to ${p}: ${t}`)].join('; '), kind: (m) => (m.dry_run ? 'warn' : m.sent_to.length ? 'good' : null) },
    { name: 'Hits', n: true, by: (m) => (m.hits ?? m.would_have_hit)?.packets ?? -1, text: (m) => (m.hits ? scaled(m.hits.packets, '') : m.would_have_hit ? `would have hit ${scaled(m.would_have_hit.packets, '')}` : 'unknown') },
    { name: 'Age', n: true, by: (m) => m.since, text: (m) => span(Date.now() / 1000 - m.since) },
    { name: 'Ends', n: true, text: (m) => (m.ends == null ? 'never' : m.ends > Date.now() / 1000 ? `in ${span(m.ends - Date.now() / 1000)}` : 'with the attack') },
    { name: 'Act', act: true, node: actions },
  ];
}

let undo = null;
function rules(root) {
  const list = table(ruleColumns((m) => [
    button('Withdraw', async () => {
      const done = await api('DELETE', `${kindPath(m)}/${encodeURIComponent(m.id)}?reason=dashboard`);
      undo = m.rule ? { path: 'rules', body: { rule: m.rule, reason: 'undo' } } : { path: 'blackholes', body: { address: m.prefix, reason: 'undo' } };
      if (m.ends > Date.now() / 1000) undo.body.expires_seconds = Math.ceil(m.ends - Date.now() / 1000);
      return { text: `withdrawn: ${m.route}` , done };
    }, 'bad', `withdraw ${m.route}`), ' ',
    button('+1 h', () => api('POST', `${kindPath(m)}/${encodeURIComponent(m.id)}/extend`, { expires_seconds: 3600, reason: 'dashboard' }), null, `extend ${m.route}`),
  ]), { key: (m) => m.id + m.prefix + m.origin, empty: 'no rule and no blackhole', caption: 'Rules and blackholes' });
  const again = button('Undo the last withdrawal', async () => { const u = undo; undo = null; return api('POST', u.path, u.body); });
  const address = h('input', { name: 'address', required: true, placeholder: '203.0.113.9' });
  const minutes = h('input', { name: 'minutes', type: 'number', min: 1, max: 525600, value: 60 });
  const halt = button('Withdraw everything', async () => (confirm('Withdraw everything everywhere, and announce nothing until it is enabled again?')
    ? api('POST', 'announcing', { enabled: false, reason: 'dashboard' }) : null), 'bad');
  const resume = button('Announce again', () => api('POST', 'announcing', { enabled: true, reason: 'dashboard' }), 'main');
  root.append(h('h1', {}, 'Rules'), h('p', {}, again, ' ', halt, ' ', resume), list.node, h('h2', {}, 'Blackhole a host'),
    h('form', { onsubmit: (e) => { e.preventDefault(); act(() => api('POST', 'blackholes', { address: address.value, expires_seconds: 60 * Number(minutes.value), reason: 'dashboard' })); } },
      h('label', {}, 'Own host', address), h('label', {}, 'Minutes', minutes), h('button', { class: 'bad' }, 'Blackhole')));
  return { tick(t) { list.set(t.mitigations); again.hidden = !undo; halt.hidden = t.halted; resume.hidden = !t.halted; } };
}

function approvals(root) {
  const list = table(ruleColumns((m) => [
    button('Approve', () => api('POST', `approvals/${encodeURIComponent(m.id)}?reason=dashboard`), 'main', `approve ${m.route}`), ' ',
    button('Drop', () => api('DELETE', `approvals/${encodeURIComponent(m.id)}?reason=dashboard`), 'bad', `drop ${m.route}`),
  ]), { key: (m) => m.id + m.prefix + m.origin, empty: 'nothing waits for approval', caption: 'Waiting for approval' });
  root.append(h('h1', {}, 'Approvals'), h('p', { class: 'soft' }, 'Rules of host groups with mitigation = "approve" wait here, and blackholes that no person has agreed to: no rule helps, and the traffic looks ordinary or is below blackhole_pps and blackhole_mbps; also what rests on a sampling rate that its exporter contradicts, while it does.'), list.node);
  return { tick(t) { list.set(t.mitigations.filter((m) => m.awaits_approval)); } };
}

function exporters(root) {
  const list = table([
    { name: 'Exporter', by: (e) => e.address, text: (e) => e.address },
    { name: 'Speaks', text: (e) => e.protocols.join(', ') },
    { name: 'Records', n: true, by: (e) => e.records_per_second, text: (e) => scaled(e.records_per_second, '/s') },
    { name: 'Silent', n: true, by: (e) => e.silent_seconds, text: (e) => span(e.silent_seconds), kind: (e) => (e.silent_seconds > 60 ? 'bad' : null) },
    { name: 'Lost', n: true, by: (e) => e.lost_records, text: (e) => scaled(e.lost_records, ''), kind: (e) => (e.lost_records > e.records / 100 ? 'warn' : null) },
    { name: 'Sampling', n: true, text: (e) => `1:${e.sampling_rate || '?'} (${e.sampling_source})`, kind: (e) => (e.measured_rate ? 'bad' : null) },
    { name: 'Clock skew', n: true, text: (e) => `${e.clock_skew_ms} ms` },
    { name: 'Not understood', text: (e) => Object.entries(e.errors).map(([k, v]) => `${k}: ${v}`).join(', ') || 'nothing' },
  ], { key: (e) => e.address, empty: 'no exporter has sent anything', sort: 1, caption: 'Exporters' });
  const peers = table([
    { name: 'Peer', by: (p) => p.name, text: (p) => p.name },
    { name: 'State', text: (p) => p.state, kind: (p) => (p.state === 'established' ? 'good' : 'bad') },
    { name: 'Families', text: (p) => p.families.join(' ') },
    { name: 'Sent', n: true, text: (p) => p.routes_sent },
    { name: 'Up', n: true, text: (p) => (p.uptime_seconds == null ? '' : span(p.uptime_seconds)) },
    { name: 'Last error', text: (p) => p.last_error ?? '' },
  ], { key: (p) => p.name, empty: 'no BGP peer is configured', caption: 'BGP peers' });
  root.append(h('h1', {}, 'Exporters'), list.node, h('h2', {}, 'BGP peers'), peers.node);
  return { async load() { const [e, p] = await Promise.all([get('exporters'), get('peers')]); list.set(e); peers.set(p); }, every: 2 };
}

function groups(root, chosen) {
  const name = chosen ?? 'global';
  const tabs = h('p', { class: 'tabs' });
  const keys = table([
    { name: 'Key', by: (k) => k[0], text: (k) => k[0] },
    { name: 'Value', text: (k) => JSON.stringify(k[1]) ?? '' },
    { name: 'Change', node: (k) => {
      const input = h('input', { 'aria-label': k[0], value: k[1] == null ? '' : [k[1]].flat().join(' '), name: k[0] });
      return h('form', { onsubmit: (e) => { e.preventDefault(); act(() => api('POST', 'config/edit', { verb: 'set', words: ['hostgroup', name, k[0], ...input.value.split(/\s+/).filter(Boolean)] })); } }, input, h('button', {}, 'Set'));
    } },
  ], { key: (k) => k[0], empty: 'no keys', caption: 'Keys of the host group' });
  const rates_ = chart('Packets of its hosts together, one week', pps);
  const suggestions = table([
    { name: 'Of', text: (l) => l.of }, { name: 'Direction', text: (l) => l.direction },
    { name: 'Median', n: true, text: (l) => rateOf(l.p50, l.unit) }, { name: '99 %', n: true, text: (l) => rateOf(l.p99, l.unit) },
    { name: '99.9 %', n: true, text: (l) => rateOf(l.p999, l.unit) }, { name: 'Most', n: true, text: (l) => rateOf(l.max, l.unit) },
    { name: 'Suggested threshold', n: true, text: (l) => rateOf(l.suggested_threshold, l.unit), kind: () => 'good' },
    { name: 'Learned', n: true, text: (l) => span(l.seconds) }, { name: 'Which is', text: (l) => l.from },
    { name: 'Take it', node: (l) => (l.of !== name ? '' : button('Set', () => {
      const key = { packets: 'threshold_pps', bytes: 'threshold_mbps', flows: 'threshold_flows' }[l.unit] + (l.direction === 'outgoing' ? '_outgoing' : '');
      const value = l.unit === 'bytes' ? Math.max(1, Math.ceil(l.suggested_threshold * 8 / 1e6)) : l.suggested_threshold;
      return api('POST', 'config/edit', { verb: 'set', words: ['hostgroup', name, key, String(value)] });
    }, null, `set the suggested threshold of ${l.of} ${l.direction}`)) },
  ], { key: (l) => `${l.of} ${l.direction} ${l.unit}`, empty: 'nothing has been learned yet: baseline_learning needs some minutes of traffic without an attack', caption: 'Suggested thresholds' });
  root.append(h('h1', {}, `Host group ${name}`), tabs, rates_.node, h('h2', {}, 'Suggested thresholds of one host'), suggestions.node, h('h2', {}, 'Keys'),
    h('p', {}, 'Changes go into your candidate: ', h('a', { href: '#/config' }, 'compare and commit')), keys.node);
  return {
    async load() {
      const [names, group, series, learned] = await Promise.all([get('hostgroups'), get(`hostgroups/${encodeURIComponent(name)}`),
        get(`history/series?name=${encodeURIComponent(`group ${name}`)}&seconds=604800`), get('baseline')]);
      tabs.replaceChildren(...names.flatMap((n) => [h('a', { class: 'button', href: `#/groups/${encodeURIComponent(n)}`, 'aria-current': n === name ? 'page' : null }, n), ' ']));
      rates_.set(series.points, inPackets, outPackets, series.step);
      suggestions.set(learned.filter((l) => l.of === name));
      keys.set(Object.entries(group));
    },
  };
}
const rateOf = (n, unit) => (unit === 'bytes' ? bps(n) : scaled(n, unit === 'flows' ? 'f/s' : 'p/s'));

function config(root) {
  const diff = h('pre', {});
  const left = h('p', { class: 'alert' });
  const minutes = h('input', { type: 'number', min: 1, max: 1440, placeholder: 'for good', name: 'minutes' });
  const comment = h('input', { name: 'comment', maxlength: 200 });
  const words = h('input', { name: 'words', placeholder: 'set hostgroup global threshold_pps 20000', size: 50 });
  const running = h('pre', {});
  const commits = table([
    { name: 'Revision', n: true, by: (c) => c.revision, text: (c) => c.revision },
    { name: 'When', text: (c) => clock(c.time) }, { name: 'Who', text: (c) => c.user }, { name: 'Why', text: (c) => c.comment ?? '' },
  ], { key: (c) => c.revision, empty: 'no commits', sort: -1, caption: 'Commits' });
  const back = h('input', { type: 'number', min: 0, max: 50, value: 1, name: 'back' });
  let deadline = 0;
  root.append(h('h1', {}, 'Configuration'), left,
    h('h2', {}, 'Your candidate'), diff,
    h('form', { onsubmit: (e) => { e.preventDefault(); const [verb, ...rest] = words.value.trim().split(/\s+/); act(async () => { const done = await api('POST', 'config/edit', { verb, words: rest }); words.value = ''; return done; }); } }, h('label', {}, 'Edit', words), h('button', {}, 'Do')),
    h('form', { onsubmit: (e) => { e.preventDefault(); act(async () => {
      const m = minutes.value ? Number(minutes.value) : null;
      return api('POST', 'config/commit', { confirmed_minutes: m, comment: comment.value || null });
    }); } }, h('label', {}, 'Take back after minutes', minutes), h('label', {}, 'Comment', comment), h('button', { class: 'main' }, 'Commit'),
    button('Check', () => api('POST', 'config/commit', { check: true })),
    button('Confirm', () => api('POST', 'config/confirm'))),
    h('form', { onsubmit: (e) => { e.preventDefault(); act(() => api('POST', 'config/rollback', { back: Number(back.value) })); } }, h('label', {}, 'Commits back (0 drops edits)', back), h('button', {}, 'Roll back')),
    h('h2', {}, 'Commits'), commits.node, h('h2', {}, 'Running'), running);
  return {
    async load() {
      const [r, c] = await Promise.all([get('config/running'), get('config/history')]);
      running.textContent = r.text || '(all defaults)';
      commits.set(c.commits);
      deadline = c.unconfirmed?.deadline ?? 0;
      let text;
      try { text = (await get('config/compare')).text; } catch (error) { text = error.message; }
      diff.replaceChildren(...text.split('\n').map((row) => h('span', { class: row.startsWith('+') ? 'good' : row.startsWith('-') ? 'bad' : null }, `${row}\n`)));
    },
    tick() {
      const seconds = deadline - Date.now() / 1000;
      left.hidden = seconds <= 0;
      left.textContent = seconds > 0 ? `The commit is taken back in ${Math.round(seconds)} s unless you confirm it.` : '';
    },
  };
}

function audit(root) {
  const list = table([
    { name: 'When', by: (r) => r.time, text: (r) => clock(r.time) }, { name: 'Who', by: (r) => r.user, text: (r) => r.user },
    { name: '', text: (r) => (r.done ? 'done' : 'refused'), kind: (r) => (r.done ? 'good' : 'bad') },
    { name: 'What', text: (r) => r.action }, { name: 'Why', text: (r) => r.reason ?? '' }, { name: 'Outcome', text: (r) => r.result },
  ], { key: (r) => `${r.time}${r.action}`, empty: 'nobody changed anything', sort: -1, caption: 'Audit log' });
  root.append(h('h1', {}, 'Audit'), list.node);
  return { async load() { list.set(await get('audit?limit=500')); }, every: 5 };
}

function login(root) {
  const token = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, size: 50 });
  root.append(h('h1', {}, 'Log in'), h('p', { class: 'soft' }, 'On the daemon\'s host: floodwall set token NAME scopes operate,approve,config expires 30d'),
    h('form', { onsubmit: async (e) => {
      e.preventDefault();
      await act(async () => { const done = await api('POST', 'login', { token: token.value }); await whoAmI(); location.hash = '#/'; listen(); return done; });
    } }, h('label', {}, 'Token', token), h('button', { class: 'main' }, 'Log in')));
  token.focus();
  return {};
}

// ---- The frame: routes, session, live events ----

const SCREENS = [['', 'Overview', overview], ['hosts', 'Hosts', hosts, host], ['attacks', 'Attacks', attacks, attack], ['rules', 'Rules', rules],
  ['approvals', 'Approvals', approvals], ['exporters', 'Exporters', exporters], ['groups', 'Groups', groups, groups], ['config', 'Config', config], ['audit', 'Audit', audit]];
const main = document.getElementById('main');
const nav = document.getElementById('nav');
nav.append(...SCREENS.map(([path, name], i) => h('a', { href: `#/${path}`, accesskey: i + 1 }, name)));

let screen = {};
let ticks = 0;
async function refresh() { if (screen.load) await screen.load(); }

async function open() {
  const [path, ...rest] = location.hash.replace(/^#\//, '').split('/');
  const parameter = rest.length ? decodeURIComponent(rest.join('/')) : null;
  const found = SCREENS.find(([p]) => p === path);
  [...nav.children].forEach((a, i) => (SCREENS[i] === found ? a.setAttribute('aria-current', 'page') : a.removeAttribute('aria-current')));
  main.replaceChildren();
  document.title = `${found?.[1] ?? 'Log in'} – Floodwall`;
  ticks = 0;
  screen = path === 'login' ? login(main) : (parameter && found?.[3] ? found[3] : found?.[2] ?? overview)(main, parameter);
  if (last) screen.tick?.(last);
  try { await refresh(); } catch (error) {
    if (error.status === 401) location.hash = '#/login'; else say(error.message, true);
  }
}

async function whoAmI() {
  const who = document.getElementById('who');
  try {
    const session = await get('session');
    who.replaceChildren(session.logged_in ? h('span', { class: 'soft' }, `${session.user} `) : '', session.logged_in
      ? button('Log out', async () => { const done = await api('POST', 'logout'); await whoAmI(); return done; })
      : h('a', { href: '#/login' }, 'Log in'));
  } catch { who.replaceChildren(h('a', { href: '#/login' }, 'Log in')); }
}

const lights = document.getElementById('lights');
function tick(t) {
  if (last) {
    const seconds = Math.max(0.2, t.time - last.time);
    const rate = (a, b) => Math.max(0, (a - b) / seconds);
    rates = { packetsIn: rate(t.incoming.packets, last.incoming.packets), bytesIn: rate(t.incoming.bytes, last.incoming.bytes), bytesOut: rate(t.outgoing.bytes, last.outgoing.bytes) };
  }
  last = t;
  ticks += 1;
  const mode = t.halted ? ['bad', 'withdrawn everywhere'] : t.dry_run ? ['warn', 'dry run'] : ['good', 'announcing'];
  lights.replaceChildren(h('span', { class: `light ${mode[0]}` }, mode[1]), h('span', { class: `light ${t.attacks.length ? 'bad' : 'good'}` }, t.attacks.length ? many(t.attacks.length, 'attack') : 'no attack'));
  screen.tick?.(t);
  if (screen.every && ticks % screen.every === 0) refresh().catch(() => {});
}

let stream;
function listen() {
  stream?.close();
  stream = new EventSource('/api/v1/events');
  stream.addEventListener('tick', (e) => tick(JSON.parse(e.data)));
  stream.addEventListener('entry', (e) => screen.entry?.(JSON.parse(e.data)));
  stream.onerror = () => lights.replaceChildren(h('span', { class: 'light bad' }, 'not connected'));
}

addEventListener('hashchange', open);
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.altKey || e.metaKey || /INPUT|SELECT|TEXTAREA/.test(e.target.tagName)) return;
  if (e.key === '/') { e.preventDefault(); location.hash = '#/hosts'; setTimeout(() => document.getElementById('search')?.focus(), 50); }
  const place = Number(e.key) - 1;
  if (place >= 0 && place < SCREENS.length) location.hash = `#/${SCREENS[place][0]}`;
});
whoAmI();
listen();
open();
