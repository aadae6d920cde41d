// SPDX-License-Identifier: Apache-2.0
// One walk through the dashboard in a real browser; prints one JSON object.
//   node dashboard.mjs URL TOKEN SCHEME WIDTH HEIGHT WEB_DIR CHROMIUM
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [url, token, colorScheme, width, height, web, executablePath] = process.argv.slice(2);
const require = createRequire(join(web, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const out = { errors: [], csp: [], axe: {}, overflow: {}, steps: {} };

// What /v1/fleet says at a node that was cut off; the driver has no fleet.
const look = { is_on: false, node: '00000000000000aa', state: 'autonomous', connector: 'bus', nodes_live: 2, nodes_known: 3, cut_s: 12.3, round_trip_ms: 104, reports_heard: 9000, decisions_heard: 31, decisions_late: 0,
  decisions_made: 12, lease_s: 300, safe_pct: 0.5, sent: 3000, sent_bytes: 1050000, heard_bytes: 3150000, dropped: 40, last_error: 'kafka: 10.0.0.9:9092: timed out',
  nodes: [['aa', 'gateway', 'eu-west', true, 0.1], ['bb', 'gateway', 'eu-west', true, 0.1], ['cc', 'edge', 'us-east', false, 41.2]].map(([id, role, region, is_live, silent_s], i) => ({ node: '00000000000000' + id, name: i === 2 ? 'edge-2' : '', role, region, epoch: 3, is_self: i === 0, is_live, silent_s })),
  services: [{ service: 'shop', controller: '00000000000000aa', nodes: 2, rate: 401, late_rate: 0, failed_rate: 0.4, shed_rate: 0, in_flight: 42, queued: 0, latency_p50_ms: 12.5, latency_p99_ms: 88.1, samples: 6015 }],
  limits: [{ service: 'shop', route: 'shop /checkout', controller: '00000000000000aa', sequence: 31, shares: [['aa', 25, 40], ['bb', 62.5, 310], ['cc', 12.5, 0]].map(([id, share_pct, asked_rate]) => ({ node: '00000000000000' + id, share_pct, asked_rate })) }] };

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
try {
  const context = await browser.newContext({ viewport: { width: +width, height: +height }, colorScheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(8000);
  page.on('console', (m) => m.type() === 'error' && out.errors.push(m.text()));
  page.on('pageerror', (e) => out.errors.push(e.message));
  await page.route('**/v1/fleet', (r) => r.fulfill({ json: look }));
  await page.route('**/v1/decisions?loop=fleet*', (r) => r.fulfill({ json: { decisions: [{ id: 7, time_ms: Date.now() - 9000, target: { name: 'shop /checkout' },
    sentence: 'share of the fleet\'s limit of shop /checkout: 50 % -> 25 %, because this node was asked for 40 of 400 requests/s of a limit of 500/s (3 nodes, by node 00000000000000aa)' }] } }));
  await page.exposeFunction('told', (text) => out.csp.push(text));
  await page.addInitScript(() => addEventListener('securitypolicyviolation', (e) => window.told(`${e.violatedDirective} ${e.blockedURI}`)));

  // axe runs from the debugger's side, where the page's policy does not reach.
  const check = async (name) => {
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    out.axe[name] = found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(', ')}`);
    out.overflow[name] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (process.env.FB_SHOTS) await page.screenshot({ path: `${process.env.FB_SHOTS}/${name.replaceAll(' ', '-')}-${colorScheme}-${width}.png`, fullPage: true });
  };

  // Signed out first: the form, then the token.
  await page.goto(url + '/', { waitUntil: 'domcontentloaded' });
  await page.getByLabel('Token').waitFor();
  await check('login');
  out.errors.length = 0; // the browser reports the 401 that brought us here
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Live', { exact: true }).waitFor();
  out.steps.login = true;

  await page.locator('.decision').first().waitFor();
  await page.locator('.decision').nth(1).click();
  await page.locator('.detail h2').waitFor();
  out.steps.evidence = (await page.locator('.detail table tbody tr').count()) > 0;
  await page.locator('#detail-h:focus').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('.detail').waitFor({ state: 'detached' });
  await page.locator('.decision').nth(1).click();
  await page.locator('.detail h2').waitFor();
  await page.waitForTimeout(1300);
  const sold = await page.getByRole('region', { name: 'Signals, table' }).locator('tr', { has: page.getByRole('rowheader', { name: 'shop orders', exact: true }) }).textContent();
  out.steps.signals = (sold.includes('/s') && sold.includes('higher')) || sold;
  if (process.env.FB_SHOTS) await page.screenshot({ path: `${process.env.FB_SHOTS}/overview-${colorScheme}-${width}.png`, fullPage: true });
  await check('overview');
  out.steps.canvases = await page.locator('.plot canvas').count();
  out.steps.rate = await page.locator('.tile .figure').first().textContent();

  out.steps.hedged = (await page.getByRole('region', { name: 'Second copies and limits, table' }).locator('tbody tr').count()) > 0 && (await page.getByText('at most 2 % of all').count()) === 1;
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('Paused', { exact: true }).waitFor();
  const before = await page.locator('.tiles').textContent();
  await page.waitForTimeout(1500);
  out.steps.paused = before === (await page.locator('.tiles').textContent());
  await page.getByRole('button', { name: 'Resume' }).click();

  // A decision on the lane, by keyboard.
  await page.locator('.mark').first().focus();
  await page.keyboard.press('Enter');
  out.steps.mark = (await page.locator('.mark.is-selected').count()) === 1;

  for (const view of ['Endpoints', 'Protocols', 'Cache', 'Features', 'Stream', 'Fleet', 'Knobs', 'Requests', 'System']) {
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    await page.getByRole('navigation').getByRole('link', { name: view }).click();
    await page.getByRole('heading', { level: 1, name: view }).waitFor();
    const scrolled = await page.evaluate(() => scrollY); // a view begins at its top, its title not under the header
    if (scrolled) out.errors.push(`${view} opens scrolled by ${scrolled}`);
    await page.waitForTimeout(700);
    if (view === 'Endpoints') {
      const rows = await page.getByRole('region', { name: 'Versions, table' }).locator('tbody tr').allTextContents();
      out.steps.versions = rows.length === 2 && rows.every((t) => /\d %/.test(t));
    }
    if (view === 'Protocols') {
      await page.waitForTimeout(2300); // the second look, which gives rates
      const row = (table, name) => page.getByRole('region', { name: table + ', table' }).locator('tr', { has: page.getByRole('rowheader', { name, exact: true }) });
      const share = parseFloat(await row('Requests by protocol', 'HTTP/2').locator('td').first().textContent());
      const rate = parseFloat(await row('TLS handshakes', 'Resumed').locator('td').nth(1).textContent());
      out.steps.protocols = share > 40 && share < 80 && rate > 20 && rate < 40 || `${share} ${rate}`;
      out.steps.certificates = (await page.getByRole('region', { name: 'Certificates, table' }).locator('tbody tr').first().textContent()).includes('*.api.shop.example');
    }
    if (view === 'Cache') {
      await page.waitForTimeout(2300); // the second look, which gives rates
      const row = await page.getByRole('region', { name: 'Caches of routes, table' }).getByRole('row', { name: /^shop \/ / }).textContent();
      out.steps.cached = /[5-9]\d\.\d %.*16\.0 MiB/.test(row) || row;
      const figure = page.getByRole('img', { name: /^Miss ratio of shop \/ by size/ });
      await page.getByText('As a table').click();
      const misses = (await page.getByRole('region', { name: 'Miss ratio of shop / by size, table' }).locator('tbody td').allTextContents()).map(parseFloat);
      out.steps.curve = (await figure.count()) === 1 && misses.length > 5 && misses.length <= 32 && misses.every((v, i) => i === 0 || v <= misses[i - 1]) && misses[0] > misses.at(-1) + 20 || misses.join(' ');
      await check('cache'); // with its table open
      await page.route('**/v1/cache', (r) => r.fulfill({ json: { memory_bytes: 0, total_bytes: 0, routes: [] } }));
      await page.getByText('No route keeps answers').waitFor();
      await check('no cache');
      await page.unroute('**/v1/cache');
      await page.getByRole('region', { name: 'Caches of routes, table' }).waitFor();
      out.steps.uncached = true;
      continue;
    }
    if (view === 'Features') {
      await page.waitForTimeout(2300); // the second look, which gives rates
      const row = (table, name) => page.getByRole('region', { name: table + ', table' }).locator('tr', { has: page.getByRole('rowheader', { name, exact: true }) });
      const text = [await row('Sticky sessions', 'shop').textContent(), await row('Compression', 'search /search/').textContent(), await row('Rate limits and quotas', 'search /search/').textContent(),
        await page.locator('section', { has: page.getByRole('heading', { name: 'Renewal of certificates' }) }).textContent(), await row('Not seen so far', 'Copies at mirrors').textContent()];
      const want = [/^shop[\d.,]+.*\/s/, /MiB.*KiB\/s|KiB.*KiB\/s/, /\d+ %/, /Next run in9 h/, /mirror/];
      out.steps.features = want.every((w, i) => w.test(text[i])) || text.join(' | ');
    }
    if (view === 'Stream') {
      await page.waitForTimeout(2300); // the second look, which gives rates
      const row = page.getByRole('region', { name: 'Connectors, table' }).locator('tr', { has: page.getByRole('rowheader', { name: 'pager', exact: true }) });
      const text = await row.textContent();
      out.steps.connectors = text.includes('http sink') && text.includes('misconfigured') && text.includes('4, 61.0 s') && text.includes('answers 403') || text;
      out.steps.trouble = (await page.locator('.tile', { hasText: 'Connectors' }).textContent()).includes('1 in trouble');
      const ways = page.getByRole('region', { name: 'Ways in, table' }).locator('tr', { has: page.getByRole('rowheader', { name: 'push', exact: true }) });
      out.steps.nothing_in = await page.getByText('Nothing came in').isVisible();
      await page.evaluate(async () => {
        const post = (body) => fetch('/v1/ingest', { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body });
        await post('{"name":"queue.depth","value":12}\n{"name":"queue.depth","value":14}\n{"name":"orders.placed","value":19.9}\nno event\n');
      });
      await ways.waitFor();
      await page.getByRole('rowheader', { name: 'queue.depth', exact: true }).waitFor();
      const told = await ways.textContent();
      out.steps.ways_in = told.includes('not well formed 1') || told;
      const depth = await page.getByRole('region', { name: 'Facts of applications, table' }).locator('tr', { has: page.getByRole('rowheader', { name: 'queue.depth' }) }).textContent();
      out.steps.facts_in = depth.startsWith('queue.depth14') || depth;
      await check('stream');
      await page.getByLabel('SQL').fill('SELECT foo FROM request');
      await page.getByRole('button', { name: 'Ask', exact: true }).click();
      await page.getByText('no such column: foo').waitFor();
      out.errors = out.errors.filter((e) => !e.includes('400')); // asked for
      out.steps.refused = (await page.getByText('(character 8)').count()) === 1 && (await page.getByLabel('SQL').getAttribute('aria-invalid')) === 'true';
      await check('refused query');
      await page.getByLabel('SQL').fill('SELECT service, count(*) FROM request GROUP BY 1');
      await page.getByLabel('SQL').press('Control+Enter'); // by keyboard
      const answer = page.getByRole('region', { name: 'Answer, table' });
      await answer.waitFor();
      out.steps.asked = (await answer.locator('tbody tr').allTextContents()).join('|') === 'shop4711|search0.5' && (await page.getByText('2 rows').count()) === 1 && (await page.getByText('no such column').count()) === 0;
      await check('query');
      await page.route('**/v1/connectors', (r) => r.fulfill({ json: { connectors: [] } }));
      await page.getByText('None: name one under').waitFor();
      await check('no connectors');
      await page.unroute('**/v1/connectors');
      continue;
    }
    if (view === 'Fleet') {
      await page.getByText('This node is alone').waitFor();
      await check('no fleet');
      look.is_on = true;
      await page.getByRole('region', { name: 'Limit of shop /checkout, table' }).waitFor();
      const row = (table, name) => page.getByRole('region', { name: table + ', table' }).locator('tr', { has: page.getByRole('rowheader', { name }) });
      const text = [await row('Nodes', /^00000000000000aa/).textContent(), await row('Services over all nodes', 'shop').textContent(), await row('Limit of shop /checkout', /^edge-2 00000000000000cc/).textContent(),
        await page.locator('.tile', { hasText: 'This node' }).textContent(), await page.getByRole('region', { name: 'Parts that this node was given, table' }).textContent()];
      const want = [/autonomous.*eu-west.*shop/, /00000000000000aa.*401.*42.*12\.5 ms/, /silent, keeps this.*12\.5 %/, /autonomous.*for 12\.3 s/, /was asked for 40 of 400 requests/];
      out.steps.fleet = want.every((w, i) => w.test(text[i])) || text.join(' | ');
      await check('fleet');
      continue;
    }
    if (view === 'Knobs') {
      await page.getByRole('button', { name: 'Pin shed_threshold of shop' }).press('Enter');
      await page.getByLabel('Value for shed_threshold of shop').press('Escape');
      await page.getByLabel('Value for shed_threshold of shop').waitFor({ state: 'detached' });
      await page.getByRole('button', { name: 'Pin shed_threshold of shop' }).press('Enter');
      await page.locator('form.pin input:focus').waitFor();
      await page.keyboard.type('384'); // over what stands there
      await page.getByRole('button', { name: 'Pin', exact: true }).first().press('Enter').catch(() => {});
      await page.getByRole('button', { name: 'Unpin shed_threshold of shop' }).waitFor();
      out.steps.pinned = true;
    }
    if (view === 'Requests') {
      await page.locator('#filter').fill('status>');
      await page.getByRole('button', { name: 'Apply' }).click();
      await page.getByText('expected a number').waitFor();
      out.errors = out.errors.filter((e) => !e.includes('400')); // asked for
      await page.locator('#filter').fill('status=200 and route=~"checkout"');
      await page.getByRole('button', { name: 'Apply' }).click();
      await page.locator('tbody .path').first().waitFor();
      out.steps.tap = (await page.locator('tbody .path').allTextContents()).every((t) => t.includes('checkout'));
    }
    await check(view.toLowerCase());
  }
  await page.getByRole('navigation').getByRole('link', { name: 'Knobs' }).click();
  await page.getByRole('button', { name: 'Unpin shed_threshold of shop' }).click();
  await page.getByRole('button', { name: 'Unpin shed_threshold of shop' }).waitFor({ state: 'detached' });
  out.steps.unpinned = true;

  // A view that is opened by its address: on a narrow screen its link must be among those that are seen.
  await page.evaluate(() => { location.hash = '#/overview'; });
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await page.evaluate(() => { location.hash = '#/system'; });
  await page.getByRole('heading', { level: 1, name: 'System' }).waitFor();
  const is_seen = () => page.evaluate(() => { const a = document.querySelector('nav [aria-current]'), [l, n] = [a.getBoundingClientRect(), a.parentElement.getBoundingClientRect()]; return l.left >= n.left - 1 && l.right <= n.right + 1; });
  for (let i = 0; i < 50 && !(await is_seen()); i++) await page.waitForTimeout(100);
  out.steps.link_seen = await is_seen();

  // A service that nobody asked yet.
  await page.route('**/v1/heatmap**', async (r) => r.fulfill({ json: { ...(await (await r.fetch()).json()), t: [], counts: [] } }));
  await page.getByRole('navigation').getByRole('link', { name: 'Overview' }).click();
  await page.getByLabel('Scope of the charts').selectOption('service:shop');
  await page.getByText('No answer in this time.').waitFor();
  out.steps.no_heat = (await page.locator('canvas.heat').isVisible()) === false;
} catch (problem) {
  out.failed = problem.message;
} finally {
  await browser.close();
}
console.log(JSON.stringify(out));
