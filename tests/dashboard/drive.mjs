// Drives the dashboard in a real browser during an attack: every screen, approve, withdraw, commit, log in and out.
// node drive.mjs URL TOKEN PLAYWRIGHT FOLDER; prints one JSON object with what was seen; any complaint makes it exit 1.
import { createRequire } from 'node:module';
import path from 'node:path';

const [url, token, tools, folder] = process.argv.slice(2);
const { chromium } = createRequire(path.join(tools, 'x.js'))('playwright-core');
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(10000);
const complaints = [];
const foreign = [];
// What the browser itself logs of an answer like 401 is told apart by its text.
page.on('console', (m) => { if (m.type() === 'error' && !/status of (400|401|409|422)/.test(m.text())) complaints.push(`console: ${m.text()}`); });
page.on('pageerror', (e) => complaints.push(`script: ${e.message}`));
page.on('request', (r) => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) foreign.push(r.url()); });
page.on('dialog', (d) => d.accept());
const shot = (name) => page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
const expect = (right, text) => { if (!right) complaints.push(text); };
const wait = async (text, selector = 'main') => page.locator(selector).filter({ hasText: text }).first().waitFor();
const link = (name) => page.locator('#nav a', { hasText: name }).click();
const seen = {};
try {
  await page.goto(`${url}/`);
  await wait('Traffic');
  const paint = await page.evaluate(() => performance.getEntriesByType('paint').find((p) => p.name === 'first-contentful-paint')?.startTime ?? null);
  seen.first_paint_ms = paint;
  expect(paint !== null && paint < 1000, `first paint after ${paint} ms`);
  // Without a token nothing is changed.
  await page.goto(`${url}/#/login`);
  await page.locator('input[name=token]').fill('fw_wrong');
  await page.locator('main button', { hasText: 'Log in' }).click();
  await wait('unknown', '#notice');
  await page.locator('input[name=token]').fill(token);
  await page.locator('main button', { hasText: 'Log in' }).click();
  await wait('token browser', '#who');
  await wait('203.0.113.9');
  // The stream of whoever logged in began just now.
  const incoming = await page.locator('.card b').first().innerText();
  expect(incoming !== '0 b/s', 'the overview shows no traffic in the middle of an attack');
  await shot('overview');
  await link('Approvals');
  await wait('destination 203.0.113.9/32');
  await shot('approvals');
  await page.locator('button', { hasText: 'Approve' }).first().click();
  await wait('nothing waits');
  await link('Rules');
  await wait('not sent');
  await shot('rules');
  await page.locator('button', { hasText: '+1 h' }).first().click();
  await wait('token browser: dashboard');
  await page.locator('main tbody button', { hasText: 'Withdraw' }).first().click();
  await wait('withdrawn', '#notice');
  await page.locator('button', { hasText: 'Undo' }).click();
  await wait('token browser: undo');
  await link('Attacks');
  await wait('203.0.113.9/32');
  await shot('attacks');
  await page.locator('main tbody a').first().click();
  await wait('What was done');
  await wait('source-port 53');
  await shot('attack');
  expect(/destination 203\.0\.113\.9/.test(await page.locator('main').innerText()), 'the attack page has no candidates');
  await link('Hosts');
  await wait('203.0.113.9');
  await shot('hosts');
  await page.goto(`${url}/#/hosts/203.0.113.9`);
  await wait('History');
  await shot('host');
  for (const [name, text] of [['Exporters', '127.0.0.1'], ['Groups', 'threshold_pps'], ['Audit', 'token browser']]) {
    await link(name);
    await wait(text);
    await shot(name.toLowerCase());
  }
  // What was learned of hosts that are not attacked suggests thresholds, after some seconds.
  const suggested = page.locator('button[aria-label="set the suggested threshold of host of global incoming"]').first();
  for (let tries = 0; tries < 20 && !(await suggested.isVisible()); tries += 1) {
    await link('Audit');
    await page.waitForTimeout(500);
    await link('Groups');
    await wait('threshold_pps');
  }
  await suggested.click();
  await wait('commit puts it into force', '#notice');
  await page.locator('input[name=threshold_pps]').fill('77777');
  await page.locator('form', { has: page.locator('input[name=threshold_pps]') }).locator('button').click();
  await wait('commit puts it into force', '#notice');
  // A list becomes what is written, also before the first edit of it is committed; what is wrong leaves it as it was.
  const communities = page.locator('input[name=blackhole_communities]');
  for (const words of ['65535:666 65000:1', '65000:1', '65000:2 nonsense']) {
    await communities.fill(words);
    await page.locator('form', { has: communities }).locator('button').click();
    await wait(words.includes('nonsense') ? /nonsense/ : `blackhole_communities ${words};`, '#notice');
  }
  await link('Config');
  await wait('+threshold_pps = 77777');
  await wait('+blackhole_communities = ["65000:1"]');
  await page.locator('input[name=minutes]').fill('5');
  await page.locator('input[name=comment]').fill('by the dashboard');
  await page.locator('button', { hasText: /^Commit$/ }).click();
  await wait('taken back in');
  await shot('config');
  await page.locator('button', { hasText: 'Confirm' }).click();
  await wait('by the dashboard');
  // Sorting, keys, phone width, the other colours.
  await link('Audit');
  await page.locator('th button').first().press('Enter');
  await page.keyboard.press('3');
  await wait('On record');
  // A network has no page of its own, and its length is part of its name.
  const hosts = await page.evaluate(async () => {
    const [{ hostOf }, { hostLink }] = await Promise.all([import('/text.js'), import('/parts.js')]);
    const prefixes = ['203.0.113.9', '203.0.113.9/32', '2001:db8::9/128', '2001:db8::/32', '203.0.113.0/24'];
    return prefixes.map((prefix) => [hostOf(prefix), hostLink(prefix).hash ?? hostLink(prefix)].join(' '));
  });
  const linked = ['203.0.113.9 #/hosts/203.0.113.9', '203.0.113.9 #/hosts/203.0.113.9',
    '2001:db8::9 #/hosts/2001%3Adb8%3A%3A9', ' 2001:db8::/32', ' 203.0.113.0/24'];
  expect(JSON.stringify(hosts) === JSON.stringify(linked), `links to hosts: ${JSON.stringify(hosts)}`);
  await page.setViewportSize({ width: 390, height: 800 });
  await page.emulateMedia({ colorScheme: 'dark' });
  await link('Overview');
  await wait('Incoming');
  await shot('phone');
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wide <= 0, `the page is ${wide} px too wide for a phone`);
  await page.locator('#who button').click();
  await wait('Log in', '#who');
  await page.goto(`${url}/#/rules`);
  await wait('Blackhole');
  seen.script_bytes = await page.evaluate(() => performance.getEntriesByType('resource')
    .filter((r) => r.name.endsWith('.js')).reduce((sum, r) => sum + r.decodedBodySize, 0));
} catch (error) {
  complaints.push(`${error.message}\n${await page.locator('body').innerText().catch(() => '')}`);
  await shot('failed').catch(() => {});
}
expect(foreign.length === 0, `requests to others: ${foreign}`);
await browser.close();
console.log(JSON.stringify({ ...seen, complaints }));
process.exit(complaints.length ? 1 : 0);
