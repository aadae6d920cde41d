// SPDX-License-Identifier: Apache-2.0
// The view of the cache: what it answers and holds per route, and what other sizes would answer.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, Pairs, Table, Tile, use_poll } from './parts.js';
import { bytes, count, dash, ms, pct } from './format.js';

const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const asked = (r) => total(r.requests);
const served = (r) => r.requests.hit + r.requests.stale + r.requests.collapsed + r.requests.revalidated;
const spared = (r) => r.requests.hit + r.requests.stale + r.requests.collapsed; // the endpoint was not asked
const evicted = (r) => r.evicted;

// Of one route, or of all (null).
function sum(look, name, pick) {
  return look.routes.reduce((a, r) => (name === null || r.route === name ? a + pick(r) : a), 0);
}
// What grew in the last minute, per second; null until there are two looks.
function per_second(name, pick) {
  const [first, last] = [s.caches.value[0], s.caches.value.at(-1)];
  const dt_s = (last.time_ms - first.time_ms) / 1000;
  return dt_s > 0 ? Math.max(0, sum(last, name, pick) - sum(first, name, pick)) / dt_s : null;
}
// Of the last minute when something was asked, else of all so far.
function hit_ratio(name) {
  const recent = per_second(name, asked);
  if (recent > 0) return per_second(name, served) / recent;
  const last = s.caches.value.at(-1);
  const all = sum(last, name, asked);
  return all > 0 ? sum(last, name, served) / all : null;
}
// Milliseconds of work that endpoints were spared per second; null while their time is not known.
function saved_ms(route) {
  const rate = per_second(route.route, spared);
  return rate === null || route.origin_ms === null ? null : rate * route.origin_ms;
}

// All that its endpoints would get with an empty cache, by what their limits let through.
function cold_load(route) {
  return route.cold ? pct(route.cold.load_ratio) : dash;
}
function refill(route) {
  if (!route.cold) return dash;
  return route.cold.refill_s === null ? 'never' : ms(route.cold.refill_s * 1000);
}

function Share({ of, text }) {
  const width = Math.min(1, of ?? 0) * 100 + '%';
  return html`<span class="load"><span class="bar" aria-hidden="true"><span style=${{ width }}></span></span><span>${text ?? pct(of)}</span></span>`;
}

function Tiles({ look }) {
  const saved = look.routes.map(saved_ms).filter((v) => v !== null);
  const refused = sum(look, null, (r) => r.refused);
  return html`<dl class="tiles">
    <${Tile} label="Hit ratio" figure=${pct(hit_ratio(null))} sub="of all routes" />
    <${Tile} label="Endpoints spared" figure=${count(per_second(null, spared))} sub="requests per second" />
    <${Tile} label="Time saved" figure=${saved.length ? ms(saved.reduce((a, b) => a + b, 0)) : dash} sub="of endpoints, per second" />
    <${Tile} label="Memory" figure=${bytes(look.total_bytes)} sub=${`of ${bytes(look.memory_bytes)}`} />
    <${Tile} label="Evictions" figure=${count(per_second(null, evicted))} sub="per second" />
    <${Tile} label="No memory" figure=${count(refused)} sub="answers not kept" tone=${refused > 0 ? 'warn' : ''} />
  </dl>`;
}

function Routes({ look }) {
  return html`<section class="panel" aria-labelledby="caches-h">
    <header><h2 id="caches-h">Caches of routes</h2><p class="hint">Rates of the last minute; the ratio too, if something was asked. If empty: load of the endpoints without this cache, of what their limits let through; refill: until nine tenths of the hits are back.</p><span class="grow"></span><${CopyCli} text="foldback cache status" /></header>
    <${Table} label="Caches of routes" head=${[['Route'], ['Hit ratio'], ['Requests per s', 'n'], ['Time saved per s', 'n'], ['Used'], ['Budget', 'n'], ['Entries', 'n'], ['Evictions per s', 'n'], ['Evicted', 'n'], ['If empty', 'n'], ['Refill', 'n']]}>
      ${look.routes.map((r) => html`<tr key=${r.route}><th scope="row">${r.route}</th><td><${Share} of=${hit_ratio(r.route)} /></td>
        <td class="n">${count(per_second(r.route, asked))}</td><td class="n">${ms(saved_ms(r))}</td>
        <td><${Share} of=${r.budget_bytes > 0 ? r.used_bytes / r.budget_bytes : 0} text=${bytes(r.used_bytes)} /></td><td class="n">${bytes(r.budget_bytes)}</td>
        <td class="n">${count(r.entries)}</td><td class="n">${count(per_second(r.route, evicted))}</td><td class="n">${count(r.evicted)}</td>
        <td class="n">${cold_load(r)}</td><td class="n">${refill(r)}</td></tr>`)}
    <//></section>`;
}

// Between the points of a curve, over the logarithm of the size.
function miss_at(curve, size) {
  const i = curve.findIndex((p) => p.bytes >= size);
  if (i < 0) return curve.at(-1).miss_ratio;
  if (i === 0) return curve[0].miss_ratio;
  const [a, b] = [curve[i - 1], curve[i]];
  return a.miss_ratio + (b.miss_ratio - a.miss_ratio) * (Math.log2(size / a.bytes) / Math.log2(b.bytes / a.bytes));
}
// Up to where more memory changes nothing, and twice the budget; an odd number, so that one is in the middle.
function shown_part(curve, budget) {
  const flat = curve.findIndex((p) => p.miss_ratio - curve.at(-1).miss_ratio < 0.002);
  const beyond = curve.findIndex((p) => p.bytes >= 2 * budget);
  const last = Math.max(flat + 1, beyond, 6);
  return curve.slice(0, last + 1 + (last % 2));
}

function Plot({ route, curve }) {
  const [low, high] = [curve[0].bytes, curve.at(-1).bytes];
  const x = (size) => (Math.log2(size / low) / Math.log2(high / low)) * 100;
  const budget = route.budget_bytes;
  const at = miss_at(curve, budget);
  const marked = budget >= low && budget <= high;
  const line = curve.map((p) => `${x(p.bytes)},${(1 - p.miss_ratio) * 100}`).join(' ');
  const text = `Miss ratio of ${route.route} by size: ${pct(curve[0].miss_ratio)} with ${bytes(low)}, ${pct(at)} with the budget of ${bytes(budget)}, ${pct(curve.at(-1).miss_ratio)} with ${bytes(high)}. The table below has all points.`;
  return html`<div class="curve">
    <div class="curve-y" aria-hidden="true"><span>100 %</span><span>50 %</span><span>0 %</span></div>
    <svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=${text}>
      ${[0, 50, 100].map((y) => html`<line key=${y} class="grid" x1="0" x2="100" y1=${y} y2=${y} />`)}
      ${marked ? html`<line class="budget" x1=${x(budget)} x2=${x(budget)} y1="0" y2="100" />` : null}
      <polyline points=${line} /></svg>
    <div class="curve-x" aria-hidden="true">${[0, (curve.length - 1) / 2, curve.length - 1].map((i) => html`<span key=${i}>${bytes(curve[i].bytes)}</span>`)}</div>
  </div>
  <${Pairs} rows=${[['Budget (dashed)', bytes(budget)], ['Misses there', pct(at)], ['With half', pct(miss_at(route.curve, budget / 2))], ['With twice', pct(miss_at(route.curve, budget * 2))]]} />`;
}

function Curve({ route, id }) {
  const label = `Miss ratio of ${route.route} by size`;
  const curve = route.curve.length ? shown_part(route.curve, route.budget_bytes) : [];
  return html`<section class="panel" aria-labelledby=${id}>
    <header><h2 id=${id}>${label}</h2></header>
    ${curve.length === 0
      ? html`<p class="empty">Not known: it takes 1,000 sampled requests.</p>`
      : html`<${Plot} route=${route} curve=${curve} />
        <details><summary>As a table</summary><${Table} label=${label} head=${[['Memory'], ['Misses', 'n']]}>
          ${curve.map((p) => html`<tr key=${p.bytes}><th scope="row">${bytes(p.bytes)}</th><td class="n">${pct(p.miss_ratio)}</td></tr>`)}<//></details>`}
  </section>`;
}

export function Cache() {
  use_poll(s.load_cache, 2000);
  const look = s.caches.value.at(-1);
  if (!look) return html`<p class="empty">Asking.</p>`;
  if (look.routes.length === 0)
    return html`<section class="panel" aria-labelledby="caches-h"><header><h2 id="caches-h">Caches of routes</h2></header>
      <p class="empty">No route keeps answers: write <code>cache: on</code> at a route.</p></section>`;
  return html`<${Tiles} look=${look} /><${Routes} look=${look} />
  <p class="lead">What share of its requests each route would miss with more or less memory, measured on a sample of its keys. The cache loop moves memory to where it spares most.</p>
  <div class="halves">${look.routes.map((r, i) => html`<${Curve} key=${r.route} route=${r} id=${'curve-' + i} />`)}</div>`;
}
