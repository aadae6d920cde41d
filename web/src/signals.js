// SPDX-License-Identifier: Apache-2.0
// Signals: what applications say of themselves, beside what is usual.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, Table, use_poll } from './parts.js';
import { Spark } from './charts.js';
import { count, dash } from './format.js';

const tones = { ok: '', insufficient_data: '', watched: 'v-open', unusual: 't-warn', harmed: 't-bad' };
const says = { ok: 'ok', insufficient_data: 'too little known', watched: 'release is watched', unusual: 'unusual', harmed: 'harmed by a release' };
const known = (v) => typeof v === 'number';
const with_unit = (v, unit) => (known(v) ? count(v) + unit : dash);
const signed = (v) => (known(v) ? (v > 0 ? '+' : '') + (v * 100).toFixed(1) + ' %' : dash);
const is_told = (x) => x.state === 'unusual' || x.state === 'harmed';

// Only where the configuration names some.
export function Signals() {
  use_poll(s.load_signals, 10_000);
  const rows = s.live.value?.signals ?? [];
  if (rows.length === 0) return null;
  const points = new Map(s.signals.value.map((x) => [x.name, x.points]));
  return html`<section class="panel" aria-labelledby="signals-h">
    <header><h2 id="signals-h">Signals</h2><p class="hint">What applications say, beside what is usual at this load.</p><span class="grow"></span><${CopyCli} text="foldback decisions --loop release" /></header>
    <${Table} label="Signals" head=${[['Signal'], ['State'], ['Now', 'n'], ['Usual', 'n'], ['Change', 'n'], ['Better'], ['10 min']]}>
      ${rows.map((x) => html`<tr key=${x.name}><th scope="row">${x.service ? html`<span class="muted">${x.service}</span> ` : null}${x.name}</th>
        <td><span class=${'chip ' + tones[x.state]}>${says[x.state]}</span></td><td class="n">${with_unit(x.now, x.unit)}</td><td class="n">${with_unit(x.usual, x.unit)}</td>
        <td class=${'n' + (is_told(x) ? ' t-bad' : '')}>${signed(x.change)}</td><td>${x.better === 'none' ? dash : x.better}</td>
        <td><${Spark} points=${points.get(x.name)} tone="violet" /></td></tr>`)}
    <//></section>`;
}
