// SPDX-License-Identifier: Apache-2.0
// The view of features: what each one did so far and in the last minute, per route, service or endpoint.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, prose, Table, use_poll } from './parts.js';
import { bytes, count, dash, span } from './format.js';

const units = { _bytes: bytes, _pct: (v) => count(v) + ' %', _days: (v) => count(Math.round(v * 10) / 10) + ' d', _s: span };
const unit_of = (label) => Object.keys(units).find((u) => label.endsWith(u));
const words = (label) => {
  if (label === 'stage') return 'Given up';
  const text = label.slice(0, label.length - (unit_of(label) ?? '').length).replaceAll('_', ' ');
  return (text[0].toUpperCase() + text.slice(1)).replace(/^Cpu/, 'CPU');
};
// What is given up when foldback itself runs short.
const stages = ['nothing', 'free memory', 'idle connections', 'lowest classes', 'new connections'];
const shown = (label, v) => (label === 'stage' ? stages[v] ?? dash : typeof v !== 'number' ? dash : unit_of(label) ? units[unit_of(label)](v) : count(v));
const heads = { route: 'Route', service: 'Service', endpoint: 'Endpoint' };
// Stands still by itself: a rate of it would say nothing.
const is_state = (label) => ['_pct', '_days', '_s'].includes(unit_of(label)) || ['stage', 'certificates', 'wants_none', 'files_not_good', 'checks_waiting', 'running', 'failed_in_a_row'].includes(label);
const warns = ['failed', 'moved', 'no_room', 'refused', 'one_client', 'over_rate', 'over_quota', 'files_not_good', 'checks_without_room', 'wants_none', 'stage', 'failed_in_a_row'];
const tone = (label, v) => (v > 0 && (warns.includes(label) || (label === 'fullest_pct' && v >= 90)) ? ' t-warn' : '');

// What grew in the last minute, per second; null until there are two looks.
function per_second(feature, of, label) {
  const [first, last] = [s.features.value[0], s.features.value.at(-1)];
  const dt_s = (Date.parse(last.time) - Date.parse(first.time)) / 1000;
  const at = (look) => look.features.find((f) => f.name === feature)?.seen.find((x) => x.of === of)?.figures[label] ?? 0;
  return dt_s > 0 ? Math.max(0, at(last) - at(first)) / dt_s : null;
}

function Figure({ feature, row, label }) {
  const v = row.figures[label];
  const rate = is_state(label) || typeof v !== 'number' ? null : per_second(feature.name, row.of, label);
  const rate_text = unit_of(label) ? bytes(Math.round(rate)) : count(rate);
  return html`<td class=${'n' + tone(label, v)}>${shown(label, v)}${rate > 0 ? html` <span class="muted">${rate_text}/s</span>` : null}</td>`;
}

function Feature({ f }) {
  const labels = [...new Set(f.seen.flatMap((x) => Object.keys(x.figures)))];
  const id = 'feature-' + f.name;
  return html`<section class="panel" aria-labelledby=${id}>
    <header><h2 id=${id}>${f.title}</h2><p class="hint">${prose(f.what)}</p><span class="grow"></span><${CopyCli} text=${'foldback why ' + f.name} /></header>
    ${f.kind === 'node'
      ? html`<dl class="pairs wide">${labels.map((l) => html`<div key=${l}><dt>${words(l)}</dt><dd class=${tone(l, f.seen[0].figures[l]).trim()}>${shown(l, f.seen[0].figures[l])}</dd></div>`)}</dl>`
      : html`<${Table} label=${f.title} head=${[[heads[f.kind]], ...labels.map((l) => [words(l), 'n'])]}>
        ${f.seen.map((row) => html`<tr key=${row.of}><th scope="row">${row.of}</th>${labels.map((l) => html`<${Figure} key=${l} feature=${f} row=${row} label=${l} />`)}</tr>`)}
      <//>`}
  </section>`;
}

export function Features() {
  use_poll(s.load_features, 2000);
  const look = s.features.value.at(-1);
  if (!look) return html`<p class="empty">Asking.</p>`;
  const used = look.features.filter((f) => f.seen.length > 0);
  const rest = look.features.filter((f) => f.seen.length === 0);
  return html`<p class="lead">What each feature did since the start, and per second in the last minute. The same in words: <code>foldback why NAME</code>.</p>
  ${used.filter((f) => f.kind !== 'node').map((f) => html`<${Feature} key=${f.name} f=${f} />`)}
  <div class="halves">${used.filter((f) => f.kind === 'node').map((f) => html`<${Feature} key=${f.name} f=${f} />`)}</div>
  ${rest.length === 0 ? null : html`<section class="panel" aria-labelledby="unseen-h">
    <header><h2 id="unseen-h">Not seen so far</h2><p class="hint">Not configured, or nothing came that it would have acted on.</p></header>
    <${Table} label="Not seen so far" head=${[['Feature'], ['Keys'], ['How to']]}>
      ${rest.map((f) => html`<tr key=${f.name}><th scope="row">${f.title}</th><td>${f.keys.map((k, i) => html`${i ? ' ' : ''}<code key=${k}>${k}</code>`)}</td><td class="muted">doc/guide/${f.page}.md</td></tr>`)}
    <//></section>`}`;
}
