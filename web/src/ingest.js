// SPDX-License-Identifier: Apache-2.0
// What applications bring in: by which way, how much of it is refused and why, and the facts that it became.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, Table } from './parts.js';
import { bytes, count, dash } from './format.js';

const facts_shown = 60;
const says = { syntax: 'not well formed', no_event: 'no event', media_type: 'type of the body or line', too_large: 'too large', too_many: 'too many at once', too_fast: 'too fast',
  queue_full: 'queue full', names_full: 'no place for the name', tags_dropped: 'tags dropped', reserved: 'name of foldback itself', origin: 'page not listed',
  cut_off: 'body cut off', coding: 'coding not taken or broken', charset: 'charset' };
const of_source = (via, pick) => (look) => pick(look.ingest.sources.find((x) => x.via === via) ?? {});
const reasons = (all) => Object.entries(all).map(([why, n]) => `${says[why] ?? why} ${count(n)}`).join(', ') || dash;

export function Sources({ look, per_second }) {
  const used = look.ingest.sources.filter((x) => x.events > 0 || x.refused > 0 || x.state === 'failing');
  return html`<section class="panel" aria-labelledby="ingest-h">
    <header><h2 id="ingest-h">Ways in</h2><p class="hint">${bytes(look.ingest.queued_bytes)} of ${bytes(look.ingest.queue_bytes_max)} wait for the brain.</p><span class="grow"></span><${CopyCli} text="foldback stream status" /></header>
    ${used.length === 0
      ? html`<p class="empty">Nothing came in: applications push JSON, OTLP, StatsD or beacons; <code>scrapes</code> in the configuration reads their metrics.</p>`
      : html`<${Table} label="Ways in" head=${[['Way'], ['Events per s', 'n'], ['Samples per s', 'n'], ['Refused per s', 'n'], ['Events', 'n'], ['Refused', 'n'], ['Put off', 'n'], ['Why']]}>
        ${used.map((x) => html`<tr key=${x.via}><th scope="row">${x.via}${x.state === 'failing' ? html` <span class="t-warn">${x.error}</span>` : ''}</th>
          <td class="n">${count(per_second(of_source(x.via, (y) => y.events)))}</td><td class="n">${count(per_second(of_source(x.via, (y) => y.samples)))}</td>
          <td class="n">${count(per_second(of_source(x.via, (y) => y.refused)))}</td><td class="n">${count(x.events)}</td>
          <td class=${'n' + (x.refused ? ' t-warn' : '')}>${count(x.refused)}</td><td class="n">${count(x.put_off)}</td><td>${reasons(x.reasons)}</td></tr>`)}
      <//>`}</section>`;
}

export function CustomFacts() {
  const all = s.customs.value;
  if (!all) return null;
  const rows = [...all.names].sort((a, b) => a.name.localeCompare(b.name));
  const hint = rows.length > facts_shown ? `The first ${facts_shown} of ${rows.length} names.` : `${rows.length} of ${all.names_max} names.`;
  return html`<section class="panel" aria-labelledby="custom-h">
    <header><h2 id="custom-h">Facts of applications</h2><p class="hint">${hint}${all.refused > 0 ? ` ${count(all.refused)} events found no place.` : ''}</p></header>
    ${rows.length === 0
      ? html`<p class="empty">None yet.</p>`
      : html`<${Table} label="Facts of applications" head=${[['Name'], ['Last', 'n'], ['Mean, 10 s', 'n'], ['Mean, 60 s', 'n'], ['Events per s', 'n'], ['Age', 'n']]}>
        ${rows.slice(0, facts_shown).map((x) => html`<tr key=${x.name}><th scope="row">${x.name}</th><td class="n">${count(x.last)}</td>
          <td class="n">${count(x['10s'].mean)}</td><td class="n">${count(x['60s'].mean)}</td><td class="n">${count(x['60s'].rate)}</td><td class="n">${x.age_s} s</td></tr>`)}
      <//>`}</section>`;
}
