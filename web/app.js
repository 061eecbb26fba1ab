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
const clock = (t) => new Date(t * 1000).toLocaleString();
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

function table(columns, { key, empty, sort, caption }) {
  let by = sort ? Math.abs(sort) - 1 : -1;
  let down = sort < 0;
  let rows = [];
  const kept = new Map();
  const body = h('tbody', {});
  const heads = columns.map((c, i) => h('th', { class: c.n ? 'n' : null, scope: 'col' },
    c.by ? h('button', { type: 'button', onclick: () => { down = by === i ? !down : true; by = i; show(); } }, c.name) : c.name));
  const box = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
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
        tr = h('tr', {}, columns.map((c) => h('td', { class: c.n ? 'n' : null })));
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
  return { node: h('div', {}, box, none), set(list) { rows = list; show(); } };
}

// ---- A chart: two lines over time ----

function chart(caption, unit) {
  const svg = s('svg', { class: 'chart', viewBox: '0 0 1000 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': caption });
  const lines = ['in', 'out'].map((name) => svg.appendChild(s('polyline', { class: name })));
  const legend = h('p', { class: 'legend' });
  return {
    node: h('div', {}, svg, legend),
    set(points, incoming, outgoing) {
      const top = Math.max(1, ...points.map(incoming), ...points.map(outgoing));
      const [first, last] = [points[0]?.time ?? 0, points[points.length - 1]?.time ?? 1];
      [incoming, outgoing].forEach((of, i) => lines[i].setAttribute('points',
        points.map((p) => `${(1000 * (p.time - first) / Math.max(1, last - first)).toFixed(1)},${(98 - 95 * of(p) / top).toFixed(1)}`).join(' ')));
      legend.replaceChildren(`${caption}: `, h('i', { class: 'in' }, 'incoming'), ' ', h('i', { class: 'out' }, 'outgoing'),
        points.length ? `, highest ${unit(top)}, ${clock(first)} to ${clock(last)}` : ': nothing yet');
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

function severity(x) {
  const meter = h('meter', { min: 0, max: 10, low: 2, high: 5, optimum: 0, value: Math.min(10, x), title: `${x.toFixed(1)} times the threshold` });
  return [meter, ` ×${x.toFixed(1)}`];
}
const attackLink = (a) => h('a', { href: `#/attacks/${encodeURIComponent(a.id)}` }, a.prefix);
const hostLink = (prefix) => h('a', { href: `#/hosts/${encodeURIComponent(prefix.replace(/\/(32|128)$/, ''))}` }, prefix);

// ---- Screens: each builds its nodes once; `tick` gets what changes each second, `load` asks again ----

let rates = null;
let last = null;

function overview(root) {
  const names = ['Incoming', 'Incoming packets', 'Outgoing', 'Active hosts', 'Attacks', 'Waiting for approval', 'Rules and blackholes', 'BGP sessions', 'Exporters'];
  const values = names.map(() => h('b', {}, '–'));
  const traffic = chart('Traffic of the last hour', bps);
  const attacks = attackTable('no attack in progress');
  const events = h('div', { class: 'panel', role: 'log', 'aria-label': 'Events' });
  const warnings = h('div', {});
  root.append(h('h1', {}, 'Overview'), warnings, h('div', { class: 'cards' }, names.map((n, i) => h('div', { class: 'card' }, values[i], h('span', {}, n)))),
    h('h2', {}, 'Traffic'), traffic.node, h('h2', {}, 'Attacks in progress'), attacks.node, h('h2', {}, 'Events'), events);
  const add = (time, text) => {
    events.prepend(h('div', {}, h('span', { class: 'soft' }, `${clock(time)} `), text));
    while (events.children.length > 100) events.lastChild.remove();
  };
  return {
    async load() {
      const [series, past] = await Promise.all([get('history/series?name=total&seconds=3600'), get('history/events?limit=30')]);
      traffic.set(series.points, inBytes, outBytes);
      events.replaceChildren();
      past.forEach((e) => add(e.time, phrase(e.entry)));
    },
    every: 10,
    tick(t) {
      const waiting = t.mitigations.filter((m) => m.dry_run === 'awaiting_approval').length;
      const up = t.peers.filter((p) => p.state === 'established').length;
      const quiet = t.exporters.filter((e) => e.silent_seconds > 60).length;
      const shown = [rates ? bps(rates.bytesIn) : '–', rates ? pps(rates.packetsIn) : '–', rates ? bps(rates.bytesOut) : '–', t.active_hosts, t.attacks.length,
        waiting, t.mitigations.length, `${up} of ${t.peers.length}`, quiet ? `${t.exporters.length} (${quiet} silent)` : t.exporters.length];
      shown.forEach((v, i) => { values[i].textContent = v; });
      attacks.set(t.attacks);
      warnings.replaceChildren(...t.warnings.map((w) => h('p', { class: 'bad' }, w)));
    },
    entry(e) { add(e.time, phrase(e)); },
  };
}

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
  root.append(h('h1', {}, `Host ${address}`), now, h('h2', {}, 'History'), range, packets.node, bytes.node, h('h2', {}, 'Attacks'), past.node);
  const screen = {
    async load() {
      const prefix = `${address}/${address.includes(':') ? 128 : 32}`;
      const [counters, series, attacks] = await Promise.all([get(`hosts/${encodeURIComponent(address)}`),
        get(`history/series?name=${encodeURIComponent(`host ${address}`)}&seconds=${range.value}`),
        get(`history/attacks?prefix=${encodeURIComponent(prefix)}`)]);
      now.replaceChildren(h('pre', {}, counters.text));
      packets.set(series.points, inPackets, outPackets);
      bytes.set(series.points, inBytes, outBytes);
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
  const line = s('svg', { class: 'chart', viewBox: '0 0 1000 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'Attacks of the last day' });
  root.append(h('h1', {}, 'Attacks'), live.node, h('h2', {}, 'The last day'), line, h('h2', {}, 'On record'), past.node);
  return {
    async load() {
      const all = await get('history/attacks?limit=200');
      past.set(all);
      const now = Date.now() / 1000;
      const x = (t) => Math.max(0, 1000 * (1 - (now - t) / 86400));
      line.replaceChildren(...all.filter((a) => (a.ended ?? now) > now - 86400).map((a, i) =>
        s('line', { class: a.direction === 'incoming' ? 'in' : 'out', x1: x(a.detected), x2: Math.max(x(a.ended ?? now), x(a.detected) + 3), y1: 8 + (i * 7) % 88, y2: 8 + (i * 7) % 88 })));
    },
    every: 5,
    tick(t) { live.set(t.attacks); },
  };
}

function attack(root, id) {
  const head = h('div', { class: 'panel' });
  const curve = chart('Packets around the attack', pps);
  const candidates = table([
    { name: 'Rule', text: (c) => c.rule },
    { name: 'Covers packets', n: true, by: (c) => c.coverage, text: (c) => share(c.coverage) },
    { name: 'Covers bytes', n: true, by: (c) => c.coverage_bytes, text: (c) => share(c.coverage_bytes) },
    { name: 'Ordinary traffic hit', n: true, by: (c) => c.collateral ?? -1, text: (c) => share(c.collateral) },
    { name: 'Why', text: (c) => c.reason },
  ], { key: (c) => c.rule, empty: 'no sample was mined', caption: 'Candidates' });
  const log = h('div', { class: 'panel' });
  root.append(h('h1', {}, 'Attack'), head, h('h2', {}, 'Evidence'), curve.node, h('h2', {}, 'Candidates'), candidates.node,
    h('h2', {}, 'What was done and why'), log, h('p', {}, h('a', { href: `/api/v1/history/attacks/${encodeURIComponent(id)}`, download: `${id}.json` }, 'All of it as JSON')));
  return {
    async load() {
      const page = await get(`history/attacks/${encodeURIComponent(id)}`);
      const a = page.attack;
      const alarm = page.events.find((e) => e.kind === 'alarm')?.entry;
      const mined = page.events.filter((e) => e.kind === 'candidates').map((e) => e.entry);
      head.replaceChildren(facts([
        ['Target', h('span', {}, hostLink(a.prefix), ` ${a.direction}`)], ['Severity', h('span', {}, severity(a.severity))], ['Group', a.group], ['Threshold', a.threshold],
        ['Detected', clock(a.detected)], ['Ended', a.ended ? `${clock(a.ended)} after ${span(a.ended - a.detected)}` : 'goes on'],
        ['Peak', `${pps(a.peak_packets_per_second)}, ${bps(a.peak_bytes_per_second)}`],
        ['Rests on', alarm ? `${alarm.rate}; ${Object.entries(alarm.evidence).map(([k, v]) => `${k.replaceAll('_', ' ')} ${v}`).join(', ')}` : 'unknown'],
        ['Verdict', mined.map((m) => m.verdict).join('; ') || 'not mined yet'],
      ]));
      curve.set(page.series.points, inPackets, outPackets);
      candidates.set(mined.findLast((m) => m.ranking.length)?.ranking ?? []);
      log.replaceChildren(...page.events.filter((e) => e.kind !== 'candidates').map((e) => h('div', {}, h('span', { class: 'soft' }, `${clock(e.time)} `), phrase(e.entry))));
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
    { name: 'Hits', n: true, by: (m) => m.hits?.packets ?? -1, text: (m) => (m.hits ? scaled(m.hits.packets, '') : 'unknown') },
    { name: 'Age', n: true, by: (m) => m.since, text: (m) => span(Date.now() / 1000 - m.since) },
    { name: 'Ends', n: true, text: (m) => (m.ends == null ? 'never' : m.ends > Date.now() / 1000 ? `in ${span(m.ends - Date.now() / 1000)}` : 'with the attack') },
    { name: 'Act', node: actions },
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
  root.append(h('h1', {}, 'Approvals'), h('p', { class: 'soft' }, 'Rules of host groups with mitigation = "approve" wait here.'), list.node);
  return { tick(t) { list.set(t.mitigations.filter((m) => m.dry_run === 'awaiting_approval')); } };
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
  const tabs = h('p', {});
  const keys = table([
    { name: 'Key', by: (k) => k[0], text: (k) => k[0] },
    { name: 'Value', text: (k) => JSON.stringify(k[1]) ?? '' },
    { name: 'Change', node: (k) => {
      const input = h('input', { 'aria-label': k[0], value: k[1] == null ? '' : [k[1]].flat().join(' '), name: k[0] });
      return h('form', { onsubmit: (e) => { e.preventDefault(); act(() => api('POST', 'config/edit', { verb: 'set', words: ['hostgroup', name, k[0], ...input.value.split(/\s+/).filter(Boolean)] })); } }, input, h('button', {}, 'Set'));
    } },
  ], { key: (k) => k[0], empty: 'no keys', caption: 'Keys of the host group' });
  const high = h('p', { class: 'soft' });
  root.append(h('h1', {}, `Host group ${name}`), tabs, high, h('p', {}, 'Changes go into your candidate: ', h('a', { href: '#/config' }, 'compare and commit')), keys.node);
  return {
    async load() {
      const [names, group, series] = await Promise.all([get('hostgroups'), get(`hostgroups/${encodeURIComponent(name)}`), get('history/series?name=total&seconds=604800')]);
      tabs.replaceChildren(...names.flatMap((n) => [h('a', { href: `#/groups/${encodeURIComponent(n)}` }, n), ' ']));
      const sorted = series.points.map(inPackets).sort((a, b) => a - b);
      const at = (q) => sorted[Math.floor(q * (sorted.length - 1))] ?? 0;
      high.textContent = `All of your networks together over the last week: half of the time below ${pps(at(0.5))}, 99 % below ${pps(at(0.99))}. A host's threshold above the latter never fires.`;
      keys.set(Object.entries(group));
    },
  };
}

function config(root) {
  const diff = h('pre', {});
  const left = h('p', { class: 'warn' });
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
      try { diff.textContent = (await get('config/compare')).text; } catch (error) { diff.textContent = error.message; }
    },
    tick() {
      const seconds = deadline - Date.now() / 1000;
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
  lights.replaceChildren(h('span', { class: mode[0] }, mode[1]), h('span', { class: t.attacks.length ? 'bad' : 'good' }, t.attacks.length ? `${t.attacks.length} attacks` : 'no attack'));
  screen.tick?.(t);
  if (screen.every && ticks % screen.every === 0) refresh().catch(() => {});
}

let stream;
function listen() {
  stream?.close();
  stream = new EventSource('/api/v1/events');
  stream.addEventListener('tick', (e) => tick(JSON.parse(e.data)));
  stream.addEventListener('entry', (e) => screen.entry?.(JSON.parse(e.data)));
  stream.onerror = () => lights.replaceChildren(h('span', { class: 'bad' }, 'not connected'));
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
