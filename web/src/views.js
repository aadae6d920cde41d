// SPDX-License-Identifier: Apache-2.0
// The views: overview, endpoints, knobs, requests, system.
import { html } from 'htm/preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as s from './state.js';
import { Problem, follow } from './api.js';
import { CopyCli, Pairs, prose, Table, Tile } from './parts.js';
import { Extras, Versions } from './traffic.js';
import { Chart, Heatmap, Lane, Spark, verdict_of } from './charts.js';
import { ago, arrows, bytes, clock, count, dash, ms, pct, short, value } from './format.js';
import { Signals } from './signals.js';

const verdict_text = {
  better: 'better', none: 'no change', worse: 'worse', unknown: 'unknown', open: 'not judged yet', advice: 'advice only',
};

// Unknown is not below.
const below = (v) => typeof v === 'number' && v < 0.99;

// ---- overview ----
function Tiles() {
  const facts = (s.live.value && s.scope_row(s.live.value)?.facts) ?? {};
  const tail = (name) => s.series.value?.[name].slice(-60);
  const errors = facts.error_ratio;
  const shed = facts.shed_ratio;
  const in_time = facts.in_time_ratio;
  return html`<dl class="tiles">
    <${Tile} label="Requests" figure=${count(facts.rate)} sub="answered per second" points=${tail('rate')} />
    <${Tile} label="Errors" figure=${pct(errors)} sub="of answers" tone=${errors > 0.01 ? 'bad' : ''} points=${tail('error_ratio')} />
    <${Tile} label="Latency p50" figure=${ms(facts.latency_p50)} sub="half were faster" points=${tail('latency_p50')} />
    <${Tile} label="Latency p99" figure=${ms(facts.latency_p99)} sub="99 of 100 were faster" points=${tail('latency_p99')} />
    <${Tile} label="In time" figure=${pct(in_time)} sub="within the objective" tone=${below(in_time) ? 'warn' : ''} />
    <${Tile} label="Shed" figure=${pct(shed)} sub="refused on purpose" tone=${shed > 0.001 ? 'warn' : ''} points=${tail('shed_ratio')} />
  </dl>`;
}

const rate_lines = [
  { column: 'rate', label: 'answered', colour: 'accent', fill: true },
  { column: 'offered_rate', label: 'offered', colour: 'muted', dash: [4, 4] },
];
const latency_lines = [
  { column: 'latency_p99', label: 'p99', colour: 'violet', fill: true },
  { column: 'latency_p50', label: 'p50', colour: 'accent' },
];
const loss_lines = [
  { column: 'error_ratio', label: 'errors', colour: 'bad', fill: true },
  { column: 'shed_ratio', label: 'shed', colour: 'warn', dash: [6, 3] },
];

function Feed() {
  const all = s.decisions.value;
  return html`<section class="panel feed" aria-labelledby="feed-h">
    <header><h2 id="feed-h">Decisions</h2><${CopyCli} text="foldback decisions tail" /></header>
    ${all.length === 0
      ? html`<p class="empty">No decision yet. The loops hold still while nothing gives them a reason to move.</p>`
      : html`<ol class="feed-list" tabindex="0" aria-label="Decisions, newest first">${all.slice(0, 60).map((d) => html`<li key=${d.id}>
        <button class=${'decision' + (d.id === s.selected.value ? ' is-selected' : '')} aria-pressed=${d.id === s.selected.value ? 'true' : 'false'}
          onClick=${() => (s.selected.value = d.id === s.selected.value ? 0 : d.id)}>
          <span class=${'dot v-' + verdict_of(d)} aria-hidden="true"></span>
          <span class="what"><b>${d.knob}</b> ${value(d.from)} → ${value(d.to, d.unit)}</span>
          <span class="who">${d.target.name}</span>
          <span class="when">${ago(d.time_ms, s.now_ms.value)} · ${verdict_text[verdict_of(d)]}</span>
        </button></li>`)}</ol>`}
  </section>`;
}

const fact_value = (v, unit) =>
  v === null ? dash : unit === 'ms' ? ms(v) : unit === '' ? (Math.abs(v) <= 1 ? pct(v) : count(v)) : `${count(v)} ${unit}`;

function Bounds({ d }) {
  if (d.min === undefined || !(d.max > d.min)) return null;
  const log = d.max / Math.max(d.min, 1) > 50; // limits span decades
  const at = (v) => {
    const f = log ? (x) => Math.log(Math.max(x, 0.5)) : (x) => x;
    return Math.max(0, Math.min(100, ((f(v) - f(d.min)) / (f(d.max) - f(d.min))) * 100));
  };
  const [a, b] = [at(d.from), at(d.to)];
  return html`<div class="bounds" role="img" aria-label=${`From ${d.from} to ${d.to}, bounds ${d.min} to ${d.max}`}>
    <span class="end">${value(d.min)}</span>
    <span class="track"><span class="move" style=${{ left: Math.min(a, b) + '%', width: Math.abs(b - a) + '%' }}></span>
      <span class="from" style=${{ left: a + '%' }}></span><span class="to" style=${{ left: b + '%' }}></span></span>
    <span class="end">${value(d.max, d.unit)}</span></div>`;
}

// What a piece of evidence rests on: "1,204 samples in 10 s".  The panel is narrow: no columns of their own.
function behind(e) {
  const window = e.window_ms ? ` in ${e.window_ms >= 1000 ? e.window_ms / 1000 + ' s' : e.window_ms + ' ms'}` : '';
  return `${count(e.n)} ${e.n === 1 ? 'sample' : 'samples'}${window}`;
}

function Detail() {
  const d = s.selected_decision.value;
  const heading = useRef(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [d?.id]);
  if (!d) return null;
  const o = d.outcome;
  return html`<section class="panel detail" aria-labelledby="detail-h" onKeyDown=${(e) => e.key === 'Escape' && (s.selected.value = 0)}>
    <header><h2 id="detail-h" tabindex="-1" ref=${heading}>Decision ${d.id}</h2>
      <span class=${'chip v-' + verdict_of(d)}>${verdict_text[verdict_of(d)]}</span>
      <span class="grow"></span>
      <button class="quiet" aria-label="Close decision" onClick=${() => (s.selected.value = 0)}>✕</button></header>
    <p class="sentence">${arrows(d.sentence)}</p>
    <dl class="pairs">
      <div><dt>Loop</dt><dd>${d.loop}</dd></div>
      <div><dt>By</dt><dd>${d.actor}</dd></div>
      <div><dt>Mode</dt><dd>${d.mode}${d.is_applied ? '' : ', not applied'}</dd></div>
      <div><dt>Time</dt><dd>${clock(d.time_ms)}</dd></div>
      ${d.delay_ms === null ? null : html`<div><dt>After its cause</dt><dd>${ms(d.delay_ms)}</dd></div>`}
    </dl>
    <p class="reason"><b>Why.</b> ${d.reason_sentence}</p>
    <${Bounds} d=${d} />
    ${d.evidence?.length ? html`<h3>Evidence</h3>
      <${Table} label="Evidence" head=${[['Fact'], ['Value', 'n'], ['Against', 'n']]}>
        ${d.evidence.map((e) => html`<tr key=${e.fact}><td title=${e.what}>${e.fact}<small class="hint behind">${behind(e)}</small></td>
          <td class="n">${fact_value(e.value, e.unit)}</td><td class="n">${fact_value(e.threshold, e.unit)}</td></tr>`)}
      <//>` : null}
    <h3>Outcome</h3>
    ${o
      ? html`<div class="before-after"><div><span>Before</span><b>${fact_value(o.before, o.unit ?? '')}</b><small>${count(o.n_before)} samples</small></div>
          <span class="arrow" aria-hidden="true">→</span>
          <div><span>After</span><b>${fact_value(o.after, o.unit ?? '')}</b><small>${count(o.n_after)} samples</small></div>
          <p>${o.fact ?? ''}: <b>${verdict_text[verdict_of(d)]}</b>${o.is_reverted ? ', the knob went back' : ''}${o.is_frozen ? ', the loop rests here now' : ''}.</p></div>`
      : html`<p class="hint">${d.is_applied && d.verify_at ? `The verifier looks at ${clock(Date.parse(d.verify_at))}.` : 'Nothing to verify: the knob was not moved.'}
          ${d.expected?.fact && d.expected.effect !== 'none' ? ` Expected: ${d.expected.fact} ${d.expected.effect === 'keep' ? 'stays' : 'gets ' + d.expected.effect}.` : ''}</p>`}
    <p class="last"><${CopyCli} text=${d.cli} /></p>
  </section>`;
}

const red_head = [['Name'], ['p99, last minute'], ['Rate', 'n'], ['Errors', 'n'], ['Shed', 'n'], ['p50', 'n'], ['p99', 'n'], ['In time', 'n']];
function RedCells({ row }) {
  const f = row.facts;
  return html`<td><${Spark} points=${s.trails.get(row.name)} tone="violet" /></td><td class="n">${count(f.rate)}</td>
    <td class=${'n' + (f.error_ratio > 0.01 ? ' t-bad' : '')}>${pct(f.error_ratio)}</td><td class=${'n' + (f.shed_ratio > 0.001 ? ' t-warn' : '')}>${pct(f.shed_ratio)}</td>
    <td class="n">${ms(f.latency_p50)}</td><td class="n">${ms(f.latency_p99)}</td><td class=${'n' + (below(f.in_time_ratio) ? ' t-warn' : '')}>${pct(f.in_time_ratio)}</td>`;
}

function Services() {
  const all = s.live.value?.services ?? [];
  return html`<section class="panel" aria-labelledby="services-h">
    <header><h2 id="services-h">Services and routes</h2><${CopyCli} text="foldback top" /></header>
    <${Table} label="Services and routes" head=${red_head}>
      ${all.map((row) => html`<tr key=${row.name} class="group"><th scope="row"><button class="link" onClick=${() => s.set_scope('service:' + row.name)}>${row.name}</button></th><${RedCells} row=${row} /></tr>
        ${(s.live.value?.routes ?? []).filter((r) => r.service === row.name).map((r) => html`<tr key=${r.name}>
          <th scope="row" class="sub"><button class="link" onClick=${() => s.set_scope('route:' + r.name)}>${short(r.name, row.name)}</button>${r.limited > 0 && html` <small class="hint">${count(r.limited)} limited</small>`}</th><${RedCells} row=${r} /></tr>`)}`)}
    <//>
  </section>
  <section class="panel" aria-labelledby="classes-h">
    <header><h2 id="classes-h">Priority classes</h2><p class="hint">What is refused first when there is too much.</p></header>
    <${Table} label="Priority classes" head=${[['Service'], ['Class'], ['Offered', 'n'], ['Shed', 'n'], ['p99', 'n'], ['In time', 'n'], ['Queued', 'n']]}>
      ${all.flatMap((row) => row.classes.map((c, i) => html`<tr key=${row.name + c.class} class=${i === 0 ? 'group' : ''}>
        <td>${i === 0 ? row.name : ''}</td><td>${c.class}</td><td class="n">${count(c.offered_rate)}</td>
        <td class=${'n' + (c.shed_ratio > 0.001 ? ' t-warn' : '')}>${pct(c.shed_ratio)}</td><td class="n">${ms(c.latency_p99)}</td>
        <td class=${'n' + (below(c.in_time_ratio) ? ' t-warn' : '')}>${pct(c.in_time_ratio)}</td><td class="n">${count(c.queued)}</td></tr>`))}
    <//>
  </section>`;
}

export function Overview() {
  const per_second = (v) => count(v) + (v === null || v === undefined ? '' : '/s');
  return html`<${Tiles} />
  <div class="split">
    <div class="stack">
      <section class="panel charts" aria-label="Rate, latency and losses over time">
        <${Lane} />
        <${Chart} title="Rate" lines=${rate_lines} format=${per_second} />
        <${Chart} title="Latency" lines=${latency_lines} format=${ms} height=${156} />
        <${Chart} title="Errors and shedding" lines=${loss_lines} format=${pct} height=${112} />
        <p class="legend marks" aria-hidden="true">${['better', 'none', 'worse', 'open', 'advice'].map((v) => html`<span class="key" key=${v}><span class=${'dot v-' + v}></span>${verdict_text[v]}</span>`)}</p>
      </section>
      <${Heatmap} />
      <${Signals} />
      <${Services} />
      <${Extras} />
    </div>
    <div class="stack side"><${Detail} /><${Feed} /></div>
  </div>`;
}

// ---- endpoints ----
const health_tone = { ok: 'good', ramping: 'warn', half_open: 'warn', 'half-open': 'warn', ejected: 'bad', draining: 'warn', gone: 'bad' };
const origin_words = {
  config: 'The configuration names its address', dns: 'Found by a name of the configuration',
  file: 'In a list of endpoints', api: 'Added through the API or foldback endpoint add',
};
const no_limit = 2 ** 32 - 1; // passed connections without a set one
function Load({ e }) {
  const share = e.limit > 0 ? Math.min(1, e.in_flight / e.limit) : 0;
  return html`<span class="load"><span class=${'bar' + (share >= 1 ? ' is-full' : '')} aria-hidden="true"><span style=${{ width: share * 100 + '%' }}></span></span>
    <span>${e.in_flight} / ${e.limit === no_limit ? 'no limit' : e.limit}</span></span>`;
}

// Only what is not plain: a zone, a weight that is not even, a load that it reported.
function Place({ e }) {
  const words = [];
  if (e.zone) words.push(html`<span class=${'chip' + (e.is_far ? ' t-warn' : '')} title=${e.is_far ? 'Another zone: used when the own one is full or fails' : 'Zone'}>${e.zone}</span>`);
  if (e.is_spare) words.push(html`<span class="chip" title="Used when none of the first is healthy">spare</span>`);
  if (e.is_out) words.push(html`<span class="chip t-warn" title="Its agent wants no requests">agent: out</span>`);
  if (e.weight !== null && e.weight !== undefined && Math.abs(e.weight - 1) > 0.005) words.push(html`<span class="muted" title="Weight in force">x ${e.weight.toFixed(2)}</span>`);
  if (e.utilisation !== null && e.utilisation !== undefined) words.push(html`<span class="muted" title="Utilisation that it reports">load ${pct(e.utilisation)}</span>`);
  return html`${words.map((w, i) => html`${i ? ' ' : ''}${w}`)}`;
}

export function Endpoints() {
  const all = s.live.value?.endpoints ?? [];
  return html`<section class="panel" aria-labelledby="endpoints-h">
    <header><h2 id="endpoints-h">Endpoints</h2><p class="hint">In flight against the limit that was learned for each.</p><span class="grow"></span><${CopyCli} text="foldback status" /></header>
    <${Table} label="Endpoints" head=${[['Endpoint'], ['Health'], ['In flight / limit'], ['Rate', 'n'], ['First byte', 'n'], ['p99', 'n'], ['Errors', 'n'], ['Share', 'n'], ['Origin'], ['Place'], ['p99, last minute'], ['']]}>
      ${all.map((e, i) => html`<tr key=${e.name} class=${i === 0 || all[i - 1].service !== e.service ? 'group plain' : ''}>
        <th scope="row"><span class="muted">${e.service}</span> ${short(e.name, e.service)}</th>
        <td><span class=${'chip t-' + (health_tone[e.health] ?? 'none')}>${e.is_drained ? 'drained' : e.health}</span></td>
        <td><${Load} e=${e} /></td><td class="n">${count(e.facts.rate)}</td><td class="n">${ms(e.latency_ms)}</td><td class="n">${ms(e.facts.latency_p99)}</td>
        <td class=${'n' + (e.error_ratio > 0.01 ? ' t-bad' : '')}>${pct(e.error_ratio)}</td><td class="n">${pct(e.share)}</td><td title=${origin_words[e.origin]}>${e.origin ?? dash}</td><td><${Place} e=${e} /></td>
        <td><${Spark} points=${s.trails.get(e.name)} tone="violet" /></td>
        <td class="n"><button onClick=${() => s.drain(e, e.is_drained)} aria-label=${(e.is_drained ? 'Undrain ' : 'Drain ') + e.name}>${e.is_drained ? 'Undrain' : 'Drain'}</button></td></tr>`)}
    <//>
    ${all.length === 0 ? html`<p class="empty">No endpoint is known yet.</p>` : null}
  </section>
  <${Versions} />`;
}

// ---- knobs ----
function PinForm({ k, on_done }) {
  const [text, set] = useState(String(k.value));
  const input = useRef(null);
  useEffect(() => (input.current.focus(), input.current.select()), []); // autofocus works once per page
  const id = `pin-${k.knob}-${k.target.number}`;
  const submit = async (event) => {
    event.preventDefault();
    const v = Number(text);
    if (!Number.isFinite(v) || text.trim() === '') return s.say('bad', `A number from ${k.hard_min} to ${k.hard_max} is needed.`);
    if (await s.pin(k, v)) on_done();
  };
  return html`<form class="pin" onSubmit=${submit} onKeyDown=${(e) => e.key === 'Escape' && on_done()}>
    <label for=${id} class="unseen">${`Value for ${k.knob} of ${k.target.name}`}</label>
    <input id=${id} inputmode="decimal" size="6" value=${text} onInput=${(e) => set(e.currentTarget.value)} ref=${input} />
    <button class="primary">Pin</button><button type="button" class="quiet" onClick=${on_done}>Cancel</button></form>`;
}

function KnobRow({ k, is_first }) {
  const [is_editing, edit] = useState(false);
  const layer = (name, source) => html`<td class=${'n layer' + (k.source === source ? ' in-force' : '')}>${value(k[name])}</td>`;
  return html`<tr class=${is_first ? 'group' : ''}>
    <th scope="row" class="sub" title=${k.what}>${k.target.name}</th>
    <td class="n"><b>${value(k.value, k.unit)}</b></td><td><span class=${'chip s-' + k.source}>${k.source}</span></td>
    ${layer('configured', 'configured')}${layer('learned', 'learned')}${layer('pinned', 'pinned')}
    <td class="n muted">${value(k.min)} – ${value(k.max)}</td>
    <td>${k.loop === 'none' ? html`<span class="muted">by hand</span>` : html`<select aria-label=${`Mode of ${k.knob} of ${k.target.name}`} value=${k.mode} onChange=${(e) => s.set_mode(k, e.currentTarget.value)}>
      ${['observe', 'recommend', 'act'].map((m) => html`<option key=${m} value=${m} selected=${m === k.mode}>${m}</option>`)}</select>`}
      ${k.is_frozen ? html` <span class="chip t-warn">frozen</span>` : null}</td>
    <td class="actions">${is_editing
      ? html`<${PinForm} k=${k} on_done=${() => edit(false)} />`
      : html`<button onClick=${() => edit(true)} aria-label=${`Pin ${k.knob} of ${k.target.name}`}>Pin</button>
        ${k.pinned !== null ? html`<button onClick=${() => s.unpin(k)} aria-label=${`Unpin ${k.knob} of ${k.target.name}`}>Unpin</button>` : null}
        ${k.loop === 'none' ? null : html`<button class="quiet" onClick=${() => s.command(k.is_frozen ? 'unfreeze' : 'freeze', k)} aria-label=${`${k.is_frozen ? 'Unfreeze' : 'Freeze'} ${k.knob} of ${k.target.name}`}>${k.is_frozen ? 'Unfreeze' : 'Freeze'}</button>`}
        ${k.learned !== null ? html`<button class="quiet" onClick=${() => s.command('reset', k)} aria-label=${`Reset ${k.knob} of ${k.target.name}`}>Reset</button>` : null}`}</td></tr>`;
}

export function Knobs() {
  useEffect(() => {
    const again = () => document.hidden || s.is_paused.value || s.load_knobs().catch(() => {});
    again();
    const timer = setInterval(again, 2000);
    return () => clearInterval(timer);
  }, []);
  const names = [...new Set(s.knobs.value.map((k) => k.knob))];
  return html`<p class="lead">A knob has three layers: <b>configured</b> in the file, <b>learned</b> by its loop, <b>pinned</b> by a person. The last one that is set wins; a frozen loop holds still, a reset drops what was learned.</p>
  ${names.map((name) => {
    const rows = s.knobs.value.filter((k) => k.knob === name);
    return html`<section class="panel" key=${name} aria-labelledby=${'knob-' + name}>
      <header><h2 id=${'knob-' + name}>${name}</h2><p class="hint">${prose(rows[0].what)}</p><span class="grow"></span><${CopyCli} text=${'foldback get ' + name} /></header>
      <${Table} label=${'Knob ' + name} head=${[['Target'], ['In force', 'n'], ['Source'], ['Configured', 'n'], ['Learned', 'n'], ['Pinned', 'n'], ['Bounds', 'n'], ['Mode'], ['']]}>
        ${rows.map((k) => html`<${KnobRow} key=${k.target.number} k=${k} />`)}
      <//></section>`;
  })}
  ${names.length === 0 ? html`<p class="empty">No knob is known yet.</p>` : null}`;
}

// ---- requests ----
const tap_max = 200;
export function Requests() {
  const [rows, set_rows] = useState([]);
  const [text, set_text] = useState('');
  const [filter, set_filter] = useState('');
  const [problem, set_problem] = useState('');
  const [skipped, set_skipped] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let waiting = [];
    let lost = 0;
    set_rows([]);
    set_problem('');
    set_skipped(0);
    const on = (name, v) => {
      if (name === 'lost') lost += v.lost + v.over_rate;
      else if (!s.is_paused.value) waiting.push(v);
    };
    const run = async () => {
      while (!stop.signal.aborted) {
        try {
          await follow('/v1/tap?rate=40&filter=' + encodeURIComponent(filter), stop.signal, () => {}, on);
        } catch (e) {
          if (stop.signal.aborted) return;
          if (e instanceof Problem) return set_problem(e.message);
        }
        await new Promise((done) => setTimeout(done, 2000));
      }
    };
    run();
    const timer = setInterval(() => {
      set_skipped(lost);
      if (waiting.length === 0) return;
      const fresh = waiting.reverse();
      waiting = [];
      set_rows((old) => {
        const seen = new Map();
        for (const r of [...fresh, ...old]) {
          const known = seen.get(r.id); // a sample brings method and path later
          seen.set(r.id, known ? { ...r, ...known, path: known.path ?? r.path, method: known.method ?? r.method } : r);
        }
        return [...seen.values()].slice(0, tap_max);
      });
    }, 500);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [filter]);
  const submit = (event) => {
    event.preventDefault();
    set_filter(text.trim());
  };
  const tone = (r) => (r.reason?.startsWith('shed') ? 't-warn' : r.status >= 500 || r.status === 0 ? 't-bad' : '');
  return html`<section class="panel" aria-labelledby="tap-h">
    <header><h2 id="tap-h">Live requests</h2><p class="hint">At most 40 per second; parts of a path that may name a person are hidden.</p><span class="grow"></span>
      <${CopyCli} text=${filter ? `foldback tap --filter '${filter}'` : 'foldback tap'} /></header>
    <form class="filter" onSubmit=${submit}>
      <label for="filter">Filter</label>
      <input id="filter" type="text" spellcheck=${false} autocomplete="off" placeholder='status>=500 and total_ms>100' value=${text} onInput=${(e) => set_text(e.currentTarget.value)}
        aria-invalid=${problem ? 'true' : 'false'} aria-describedby="filter-help" />
      <button class="primary">Apply</button>
    </form>
    <p id="filter-help" class=${problem ? 'hint t-bad' : 'hint'}>${problem || 'Fields: status, reason, class, route, service, endpoint, total_ms, queue_ms, upstream_ms, path, method. Operators: = != < > =~ and or not.'}</p>
    <${Table} label="Live requests" head=${[['Time'], ['Request'], ['Status', 'n'], ['Class'], ['Endpoint'], ['Total', 'n'], ['Queue', 'n'], ['First byte', 'n'], ['Reason'], ['Id']]}>
      ${rows.map((r) => html`<tr key=${r.id} class=${tone(r)}><td>${clock(Date.parse(r.time))}</td><td class="path">${r.path ? `${r.method} ${r.path}` : r.route || '(no route)'}</td>
        <td class="n"><b>${r.status || dash}</b></td><td>${r.class}</td><td>${short(r.endpoint, r.service) || dash}</td><td class="n">${ms(r.total_ms)}</td><td class="n">${ms(r.queue_ms)}</td>
        <td class="n">${ms(r.upstream_ms)}</td><td>${r.reason}</td><td class="mono">${r.id.slice(-8)}</td></tr>`)}
    <//>
    ${rows.length === 0 ? html`<p class="empty">Waiting for a request that matches.</p>` : null}
    ${skipped > 0 ? html`<p class="hint">${count(skipped)} more matched and are not shown.</p>` : null}
  </section>`;
}

// ---- system ----
const severity_tone = { info: 'none', warning: 'warn', critical: 'bad' };
export function System() {
  useEffect(() => {
    const again = () => document.hidden || Promise.all([s.load_findings(), s.load_status()]).catch(() => {});
    again();
    const timer = setInterval(again, 5000);
    return () => clearInterval(timer);
  }, []);
  const stream = s.live.value?.stream;
  const cost = s.live.value?.cost;
  const f = s.findings.value;
  const st = s.status.value;
  return html`<section class="panel" aria-labelledby="doctor-h">
    <header><h2 id="doctor-h">Doctor</h2><p class="hint">What to look at first, and with which command.</p><span class="grow"></span><${CopyCli} text="foldback doctor" /></header>
    ${f && f.findings.length === 0 ? html`<p class="empty">Nothing to report.</p>` : null}
    <ol class="findings">${(f?.findings ?? []).map((x) => html`<li key=${x.rank}><span class=${'chip t-' + severity_tone[x.severity]}>${x.severity}</span><span>${x.text}</span><code>${x.command}</code></li>`)}</ol>
  </section>
  <div class="halves">
    <section class="panel" aria-labelledby="stream-h"><header><h2 id="stream-h">Event stream</h2></header>
      ${stream ? html`<${Pairs} rows=${[
        ['Events per second', count(stream.events_per_s)], ['Since the start', count(stream.events)], ['Lost', count(stream.events_lost), stream.events_lost ? 'bad' : ''],
        ['Behind', ms(stream.lag_ms)], ['Log', bytes(stream.log_bytes)], ['Bytes per event', stream.next_offset > stream.first_offset ? (stream.log_bytes / (stream.next_offset - stream.first_offset)).toFixed(1) : dash],
        ['Segments', count(stream.segments)], ['Encryption', stream.is_encrypted ? `key ${stream.key_id}` : 'off'], ['Disk', stream.is_disk_ok ? 'ok' : stream.disk_error, stream.is_disk_ok ? '' : 'bad'],
      ]} />` : null}</section>
    <section class="panel" aria-labelledby="cost-h"><header><h2 id="cost-h">What foldback itself takes</h2></header>
      ${cost ? html`<${Table} label="Cost per process" head=${[['Process'], ['CPU (cores)', 'n'], ['Memory', 'n'], ['Threads', 'n']]}>
        ${['gateway', 'brain', 'supervisor', 'host'].filter((p) => cost[p]).map((p) => html`<tr key=${p}><th scope="row">${p}</th><td class="n">${cost[p].cpu_cores.toFixed(3)}</td><td class="n">${bytes(cost[p].memory_bytes)}</td><td class="n">${p === 'host' ? cost[p].cores + ' cores' : cost[p].threads}</td></tr>`)}
      <//><${Pairs} rows=${[['CPU per tick', ms(cost.tick_cpu_ms)], ['Tick late by', ms(cost.tick_lag_ms)], ['Admin connections', count(cost.admin_connections)]]} />` : null}</section>
  </div>
  <section class="panel" aria-labelledby="about-h"><header><h2 id="about-h">This instance</h2></header>
    ${st ? html`<${Pairs} rows=${[['Node', st.node], ['Version', st.version], ['Gateway threads', st.gateway.threads], ['Gateway starts', st.gateway.epoch], ['Requests so far', count(st.gateway.requests)], ['Configuration', st.config_hash.slice(0, 8)]]} />` : null}
    <p class="hint"><a href="/metrics">Prometheus metrics</a> · <a href="/v1/openapi.json">OpenAPI description</a></p></section>`;
}
