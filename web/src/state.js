// SPDX-License-Identifier: Apache-2.0
// State of the page as signals, and everything that changes it.
import { signal, computed, batch } from '@preact/signals';
import { call, follow, get, Problem } from './api.js';

export const columns = ['rate', 'offered_rate', 'error_ratio', 'shed_ratio', 'latency_p50', 'latency_p99', 'queue_wait_p99'];
const keep_s = 600;
const decisions_max = 300;
const trail_max = 60;
const minute_points = 31; // a poll each 2 s

export const connection = signal('connecting'); // connecting | live | lost | denied
export const is_paused = signal(false);
export const range_s = signal(300);
export const scope = signal('all');
export const live = signal(null); // newest summary
export const status = signal(null);
export const series = signal(null); // {t: [], rate: [], ...}
export const heat = signal(null); // {bounds_ms, t: [], counts: []}
export const decisions = signal([]); // newest first
export const selected = signal(0);
export const versions = signal([]);
export const protocols = signal([]); // status of the last minute, oldest first
export const features = signal([]); // /v1/features of the last minute, oldest first
export const caches = signal([]); // of the last minute, oldest first, each with time_ms
export const fleet = signal(null);
export const fleet_decisions = signal([]); // newest first
export const streams = signal([]); // of the last minute, oldest first: { stream, cost, brain, connectors, ingest, time_ms }
export const customs = signal(null); // facts of applications, the newest look
export const signals = signal([]); // with their last ten minutes
export const budget_pct = signal(null); // of second copies
export const knobs = signal([]);
export const findings = signal(null);
export const notice = signal(null); // {kind, text}
export const announced = signal('');
export const trails = new Map(); // name -> last minute of p99, for sparklines

export const now_ms = computed(() => live.value?.time_ms ?? Date.now());
export const selected_decision = computed(() => decisions.value.find((d) => d.id === selected.value) ?? null);

export function say(kind, text) {
  notice.value = { kind, text, at: Date.now() };
}
function fail(problem) {
  if (problem instanceof Problem && problem.status === 401) connection.value = 'denied';
  else say('bad', problem.message + (problem.remedy ? (/[.!?]$/.test(problem.message) ? ' ' : '. ') + problem.remedy : ''));
}
export async function attempt(work, done_text) {
  try {
    await work();
    if (done_text) say('good', done_text);
    return true;
  } catch (problem) {
    fail(problem);
    return false;
  }
}

// ---- history ----
const scope_query = () => 'scope=' + encodeURIComponent(scope.value);
export async function load_history() {
  const asked = scope.value;
  const [h, m] = await Promise.all([
    get(`/v1/history?seconds=${keep_s}&${scope_query()}`),
    get(`/v1/heatmap?seconds=${keep_s}&${scope_query()}`),
  ]);
  if (asked !== scope.value) return; // changed meanwhile
  batch(() => {
    series.value = h;
    heat.value = m;
  });
}
export async function load_decisions() {
  decisions.value = (await get(`/v1/decisions?limit=${decisions_max}`)).decisions;
}
export async function load_knobs() {
  knobs.value = (await get('/v1/knobs')).knobs;
}
export async function load_status() {
  status.value = await get('/v1/status');
}
export async function load_protocols() {
  const next = await get('/v1/status');
  const sum = (x) => x.protocols.requests.http1 + x.protocols.requests.http2 + x.protocols.requests.tcp;
  const last = protocols.value.at(-1);
  const is_new_brain = last && (sum(next) < sum(last) || next.brain.epoch !== last.brain.epoch); // it counts from 0
  batch(() => {
    status.value = next;
    protocols.value = [...(is_new_brain ? [] : protocols.value), next].slice(-minute_points);
  });
}
export async function load_features() {
  const next = await get('/v1/features');
  const sum = (x) => x.features.reduce((a, f) => f.seen.reduce((b, y) => b + (f.kind === 'node' ? 0 : Object.entries(y.figures).reduce((c, [k, n]) => c + (/_(pct|days|s)$/.test(k) ? 0 : n), 0)), a), 0);
  const last = features.value.at(-1);
  features.value = [...(last && sum(next) < sum(last) ? [] : features.value), next].slice(-minute_points);
}
export async function load_cache() {
  const next = { ...(await get('/v1/cache')), time_ms: Date.now() };
  const sum = (x) => x.routes.reduce((a, r) => Object.values(r.requests).reduce((b, n) => b + n, a), 0);
  const last = caches.value.at(-1);
  caches.value = [...(last && sum(next) < sum(last) ? [] : caches.value), next].slice(-minute_points);
}
export async function load_stream() {
  const [status, connectors, ingest, custom] = await Promise.all(['/v1/status', '/v1/connectors', '/v1/ingest', '/v1/custom'].map(get));
  customs.value = custom;
  const next = { ...status, ...connectors, ingest, time_ms: Date.now() };
  const last = streams.value.at(-1);
  const is_new_brain = last && next.brain.epoch !== last.brain.epoch; // it counts from 0
  streams.value = [...(is_new_brain ? [] : streams.value), next].slice(-minute_points);
}
export async function load_signals() {
  signals.value = (await get('/v1/signals')).signals;
}
export async function load_fleet() {
  fleet.value = await get('/v1/fleet');
  fleet_decisions.value = fleet.value.is_on ? (await get('/v1/decisions?loop=fleet&limit=20')).decisions : [];
}
export async function load_versions() {
  versions.value = (await get('/v1/versions')).versions;
}
export async function load_budget() {
  const all = (await get('/v1/config')).effective?.values ?? [];
  budget_pct.value = all.find((x) => x.key === 'upstream.hedge_pct')?.value ?? null;
}
export async function load_findings() {
  findings.value = await get('/v1/doctor');
}
async function load_heat_tail() {
  const old = heat.value;
  if (!old || is_paused.value || document.hidden) return;
  const hidden_s = Math.ceil(now_ms.value / 1000 - (old.t.at(-1) ?? 0)); // of a tab that nobody saw for a while
  const more = await get(`/v1/heatmap?seconds=${Math.min(keep_s, Math.max(10, hidden_s + 5))}&${scope_query()}`).catch(() => null);
  if (!more || heat.value !== old) return;
  const last = old.t.at(-1) ?? 0;
  const from = more.t.findIndex((t) => t > last);
  if (from < 0) return;
  heat.value = {
    ...old,
    t: [...old.t, ...more.t.slice(from)].slice(-keep_s),
    counts: [...old.counts, ...more.counts.slice(from)].slice(-keep_s),
  };
}

// ---- the live stream ----
export function scope_row(message) {
  const [kind, ...rest] = scope.value.split(':');
  const name = rest.join(':');
  if (kind === 'all') return message.all;
  return (message[kind + 's'] ?? []).find((row) => row.name === name);
}
function add_point(message) {
  const facts = scope_row(message)?.facts;
  const s = series.value;
  const t = Math.floor(message.time_ms / 1000);
  if (!facts || !s || t <= (s.t.at(-1) ?? 0)) return;
  const next = { ...s, t: [...s.t, t].slice(-keep_s) };
  for (const c of columns) next[c] = [...s[c], facts[c] ?? null].slice(-keep_s);
  series.value = next;
}
function add_trails(message) {
  for (const row of [...message.services, ...message.routes, ...message.endpoints]) {
    const trail = trails.get(row.name) ?? [];
    trail.push(row.facts.latency_p99);
    if (trail.length > trail_max) trail.shift();
    trails.set(row.name, trail);
  }
}
function put_decision(decision, is_new) {
  const rest = decisions.value.filter((d) => d.id !== decision.id);
  if (is_new) decisions.value = [decision, ...rest].slice(0, decisions_max);
  else decisions.value = decisions.value.map((d) => (d.id === decision.id ? decision : d));
  if (is_new && Date.now() - announced_ms > 4000) {
    announced_ms = Date.now(); // a burst of decisions must not keep a screen reader busy
    announced.value = 'New decision: ' + decision.sentence;
  }
}
let announced_ms = 0;

function on_message(name, value) {
  if (is_paused.value) return;
  batch(() => {
    if (name === 'facts') {
      add_trails(value);
      add_point(value);
      live.value = value;
    } else if (name === 'decision' || name === 'outcome') {
      put_decision(value, name === 'decision');
    }
  });
}

let stream_abort = null;
export async function run_live() {
  let wait_ms = 500;
  for (;;) {
    stream_abort = new AbortController();
    try {
      status.value = await get('/v1/status');
      await Promise.all([load_history(), load_decisions(), load_knobs()]);
      await follow('/v1/live?interval_ms=1000', stream_abort.signal, () => {
        connection.value = 'live';
        wait_ms = 500;
      }, on_message);
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 401) {
        connection.value = 'denied';
        return;
      }
    }
    connection.value = 'lost';
    await new Promise((done) => setTimeout(done, wait_ms));
    wait_ms = Math.min(wait_ms * 2, 8000);
  }
}
export function start() {
  run_live();
  setInterval(load_heat_tail, 2000);
  addEventListener('pagehide', () => stream_abort?.abort());
}
export async function set_paused(value) {
  is_paused.value = value;
  if (!value) await attempt(() => Promise.all([load_history(), load_decisions()]));
}
export async function set_scope(value) {
  scope.value = value;
  series.value = heat.value = null;
  await attempt(load_history);
}
export async function login(token) {
  if (await attempt(() => call('POST', '/v1/login', { token: token.trim() }))) {
    notice.value = null;
    connection.value = 'connecting';
    run_live();
  } else if (connection.value === 'denied') {
    say('bad', 'That token is not the right one.');
  }
}

// ---- operators ----
const knob_path = (k) => `/v1/knobs/${encodeURIComponent(k.knob)}/${encodeURIComponent(k.target.name)}/pin`;
export const pin = (k, value) =>
  attempt(async () => {
    await call('PUT', knob_path(k), { value, actor: 'dashboard' });
    await load_knobs();
  }, `${k.knob} of ${k.target.name} is pinned to ${value}.`);
export const unpin = (k) =>
  attempt(async () => {
    await call('DELETE', knob_path(k));
    await load_knobs();
  }, `${k.knob} of ${k.target.name} is free again.`);
const target_of = (k) => ({ loop: k.loop, knob: k.knob, [k.target.kind]: k.target.name, actor: 'dashboard' });
export const set_mode = (k, mode) =>
  attempt(async () => {
    await call('POST', '/v1/mode', { ...target_of(k), mode });
    await load_knobs();
  }, `The ${k.loop} loop of ${k.target.name} is in mode ${mode}.`);
export const command = (verb, k) =>
  attempt(async () => {
    await call('POST', `/v1/${verb}`, target_of(k));
    await load_knobs();
  }, `${verb}: ${k.knob} of ${k.target.name}.`);
export const drain = (endpoint, is_in) =>
  attempt(() => call('POST', is_in ? '/v1/undrain' : '/v1/drain', { endpoint: endpoint.name, actor: 'dashboard' }),
    `${endpoint.name} ${is_in ? 'comes back' : 'is drained'}.`);
