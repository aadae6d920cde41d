// SPDX-License-Identifier: Apache-2.0
// The view of the fleet: the nodes that share limits and load, who decides what, and the parts of each limit.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, Table, Tile, use_poll } from './parts.js';
import { ago, bytes, count, dash, ms } from './format.js';

const tones = { autonomous: 'bad', joining: 'warn' };
const state_text = { joined: 'hears the others', joining: 'not heard back yet', autonomous: 'cut off, goes on alone' };
const rate = (v) => `${count(v)}/s`;
const part = (v) => `${v < 10 ? v.toFixed(2) : v.toFixed(1)} %`;

function Tiles({ look }) {
  const silent = look.nodes_known - look.nodes_live;
  const is_cut = look.state === 'autonomous';
  return html`<dl class="tiles">
    <${Tile} label="This node" figure=${look.state} sub=${is_cut ? `for ${ms(look.cut_s * 1000)}` : state_text[look.state]} tone=${tones[look.state] ?? ''} />
    <${Tile} label="Nodes" figure=${`${look.nodes_live} of ${look.nodes_known}`} sub=${silent ? `${silent} silent` : 'all heard'} tone=${silent ? 'warn' : ''} />
    <${Tile} label="There and back" figure=${ms(look.round_trip_ms)} sub=${`through ${look.connector}`} />
    <${Tile} label="Sent" figure=${bytes(look.sent_bytes)} sub=${`${count(look.sent)} messages, ${count(look.dropped)} not in time`} tone=${look.dropped && is_cut ? 'warn' : ''} />
    <${Tile} label="Decisions" figure=${count(look.decisions_heard)} sub=${`heard, ${count(look.decisions_made)} made here`} />
    <${Tile} label="Lease" figure=${ms(look.lease_s * 1000)} sub=${`then ${part(look.safe_pct)} of a limit`} />
  </dl>`;
}

// The id of a node, behind the name that its configuration gives it.
const names = (look) => (id) => {
  const name = look.nodes.find((n) => n.node === id)?.name;
  return html`${name ? `${name} ` : ''}<code>${id}</code>`;
};

function Nodes({ look }) {
  const named = names(look);
  const led = (node) => look.services.filter((x) => x.controller === node).map((x) => x.service);
  return html`<section class="panel" aria-labelledby="nodes-h">
    <header><h2 id="nodes-h">Nodes</h2><p class="hint">${look.last_error ? `The broker says: ${look.last_error}` : 'Silent: not heard for 1.5 s.'}</p><span class="grow"></span><${CopyCli} text="foldback fleet status" /></header>
    <${Table} label="Nodes" head=${[['Node'], ['State'], ['Role'], ['Region'], ['Heard', 'n'], ['Decides for']]}>
      ${look.nodes.map((n) => html`<tr key=${n.node}><th scope="row">${named(n.node)}${n.is_self ? ' (this one)' : ''}</th>
        <td class=${n.is_live || n.has_left ? '' : 't-warn'}>${n.is_self ? look.state : n.has_left ? 'left' : n.is_live ? 'live' : 'silent'}</td><td>${n.role}</td><td>${n.region || dash}</td>
        <td class="n">${ms(n.silent_s * 1000)} ago</td><td>${led(n.node).join(', ') || dash}</td></tr>`)}
    <//></section>`;
}

function Services({ look }) {
  const named = names(look);
  return html`<section class="panel" aria-labelledby="together-h">
    <header><h2 id="together-h">Services over all nodes</h2><p class="hint">Latencies of the last 10 to 20 s.</p></header>
    <${Table} label="Services over all nodes" head=${[['Service'], ['Decided by'], ['Nodes', 'n'], ['Requests', 'n'], ['Late', 'n'], ['Failed', 'n'], ['Shed', 'n'], ['In flight', 'n'], ['Queued', 'n'], ['p50', 'n'], ['p99', 'n']]}>
      ${look.services.map((x) => html`<tr key=${x.service}><th scope="row">${x.service}</th><td>${named(x.controller)}</td><td class="n">${count(x.nodes)}</td>
        <td class="n">${rate(x.rate)}</td><td class="n">${rate(x.late_rate)}</td><td class=${'n' + (x.failed_rate > 0 ? ' t-bad' : '')}>${rate(x.failed_rate)}</td><td class="n">${rate(x.shed_rate)}</td>
        <td class="n">${count(x.in_flight)}</td><td class="n">${count(x.queued)}</td><td class="n">${ms(x.latency_p50_ms)}</td><td class="n">${ms(x.latency_p99_ms)}</td></tr>`)}
    <//></section>`;
}

function Limit({ limit, look, number }) {
  const named = names(look);
  const node = (id) => look.nodes.find((n) => n.node === id);
  const state = (id) => (!node(id)?.is_live ? 'silent, keeps this' : id === look.node ? 'this one' : 'live');
  const id = `limit-${number}-h`;
  const title = `Limit of ${limit.route || limit.service}`;
  const sum = limit.shares.reduce((a, x) => a + x.share_pct, 0);
  return html`<section class="panel" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2><p class="hint">Decision ${limit.sequence} of ${named(limit.controller)}: ${part(sum)} is given.</p></header>
    <${Table} label=${title} head=${[['Node'], ['State'], ['Asked for', 'n'], ['Part', 'n']]}>
      ${limit.shares.map((x) => html`<tr key=${x.node}><th scope="row">${named(x.node)}</th><td class=${node(x.node)?.is_live ? '' : 't-warn'}>${state(x.node)}</td>
        <td class="n">${rate(x.asked_rate)}</td><td class="n">${part(x.share_pct)}</td></tr>`)}
    <//></section>`;
}

function Decisions() {
  const all = s.fleet_decisions.value;
  return html`<section class="panel" aria-labelledby="parts-h">
    <header><h2 id="parts-h">Parts that this node was given</h2><span class="grow"></span><${CopyCli} text="foldback decisions --loop fleet" /></header>
    ${all.length === 0 ? html`<p class="empty">None yet: no limit has <code>scope: fleet</code>, or nobody decided.</p>`
      : html`<${Table} label="Parts that this node was given" head=${[['When', 'n'], ['Route'], ['Why']]}>
        ${all.map((d) => html`<tr key=${d.id}><th scope="row" class="n">${ago(d.time_ms, s.now_ms.value)}</th><td>${d.target.name}</td><td class="why">${d.sentence}</td></tr>`)}
      <//>`}</section>`;
}

export function Fleet() {
  use_poll(s.load_fleet, 1000);
  const look = s.fleet.value;
  if (!look) return html`<p class="empty">Asking.</p>`;
  if (!look.is_on) return html`<section class="panel" aria-labelledby="alone-h"><header><h2 id="alone-h">This node is alone</h2></header>
    <p class="empty">Several nodes hear each other through a connector with <code>direction: fleet</code> that <code>fleet.connector</code> names.</p></section>`;
  return html`<${Tiles} look=${look} /><${Nodes} look=${look} /><${Services} look=${look} />
    ${look.limits.map((l, i) => html`<${Limit} key=${l.service + l.route} limit=${l} look=${look} number=${i} />`)}<${Decisions} />`;
}
