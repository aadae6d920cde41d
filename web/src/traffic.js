// SPDX-License-Identifier: Apache-2.0
// Versions of services, and what a route does beyond passing on: second copies, rate limits, splits.
import { html } from 'htm/preact';
import { useEffect } from 'preact/hooks';
import * as s from './state.js';
import { CopyCli, Table, use_poll } from './parts.js';
import { count, dash, ms, pct, short } from './format.js';

const below = (v) => typeof v === 'number' && v < 0.99; // unknown is not below

export function Versions() {
  use_poll(s.load_versions, 2000);
  const all = s.versions.value;
  const services = [...new Set(all.map((v) => v.service))].filter((name) => all.filter((v) => v.service === name).length > 1);
  if (services.length === 0) return null;
  return html`<section class="panel" aria-labelledby="versions-h">
    <header><h2 id="versions-h">Versions</h2><p class="hint">What each version of a service answered in the last 10 s, and its share of it.</p><span class="grow"></span><${CopyCli} text="foldback status" /></header>
    <${Table} label="Versions" head=${[['Version'], ['Split'], ['Endpoints', 'n'], ['Rate', 'n'], ['Errors', 'n'], ['p50', 'n'], ['p99', 'n'], ['In time', 'n']]}>
      ${services.flatMap((name) => {
        const rows = all.filter((v) => v.service === name);
        const sum = rows.reduce((a, v) => a + (v.facts.rate ?? 0), 0);
        return rows.map((v, i) => {
          const share = sum > 0 ? (v.facts.rate ?? 0) / sum : null;
          return html`<tr key=${v.name} class=${i === 0 ? 'group plain' : ''}><th scope="row"><span class="muted">${name}</span> ${v.version}</th>
            <td><span class="load"><span class="bar" aria-hidden="true"><span style=${{ width: (share ?? 0) * 100 + '%' }}></span></span><span>${pct(share)}</span></span></td>
            <td class="n">${count(v.endpoints)}</td><td class="n">${count(v.facts.rate)}</td><td class=${'n' + (v.facts.error_ratio > 0.01 ? ' t-bad' : '')}>${pct(v.facts.error_ratio)}</td>
            <td class="n">${ms(v.facts.latency_p50)}</td><td class="n">${ms(v.facts.latency_p99)}</td><td class=${'n' + (below(v.facts.in_time_ratio) ? ' t-warn' : '')}>${pct(v.facts.in_time_ratio)}</td></tr>`;
        });
      })}
    <//></section>`;
}

const delay_of = (route) => s.knobs.value.find((k) => k.knob === 'hedge_delay_ms' && k.target.name === route)?.value;

// Routes where something of it happened.
export function Extras() {
  useEffect(() => void s.load_budget().catch(() => {}), []);
  const rows = (s.live.value?.routes ?? []).filter((r) => r.hedges + r.limited + r.split_fallbacks > 0);
  const budget = s.budget_pct.value;
  return html`<section class="panel" aria-labelledby="extras-h">
    <header><h2 id="extras-h">Second copies and limits</h2>
      <p class="hint">${'Slow requests that were sent twice' + (budget === null ? '' : `, at most ${budget} % of all`) + ', and requests that a limit of the route refused. Counted since the start.'}</p></header>
    ${rows.length === 0
      ? html`<p class="empty">No request was sent twice, and no limit refused one.</p>`
      : html`<${Table} label="Second copies and limits" head=${[['Route'], ['Sent twice', 'n'], ['Second was faster', 'n'], ['Share now', 'n'], ['Sent after', 'n'], ['Over the rate', 'n'], ['Over the quota', 'n'], ['Split not kept', 'n']]}>
        ${rows.map((r) => {
          const delay = delay_of(r.name);
          return html`<tr key=${r.name}><th scope="row"><span class="muted">${r.service}</span> ${short(r.name, r.service)}</th>
            <td class="n">${count(r.hedges)}</td><td class="n">${r.hedges ? pct(r.hedges_won / r.hedges) : dash}</td><td class="n">${pct(r.hedge_ratio)}</td><td class="n">${delay > 0 ? ms(delay) : dash}</td>
            <td class=${'n' + (r.limited > r.limited_by_quota ? ' t-warn' : '')}>${count(r.limited - r.limited_by_quota)}</td><td class=${'n' + (r.limited_by_quota ? ' t-warn' : '')}>${count(r.limited_by_quota)}</td>
            <td class="n">${count(r.split_fallbacks)}</td></tr>`;
        })}
      <//>`}
  </section>`;
}
