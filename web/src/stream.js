// SPDX-License-Identifier: Apache-2.0
// The view of the stream: the log (rate, lag, size of blocks, what it costs), the connectors that feed on it, what
// comes in, and questions to it.
import { html } from 'htm/preact';
import { useState } from 'preact/hooks';
import { call } from './api.js';
import * as s from './state.js';
import { Query } from './query.js';
import { CopyCli, Pairs, Table, Tile, use_poll } from './parts.js';
import { CustomFacts, Sources } from './ingest.js';
import { ago, bytes, count, dash, ms } from './format.js';

// What grew in the last minute, per second; null until there are two looks, or when it shrank (retention).
function per_second(pick) {
  const [first, last] = [s.streams.value[0], s.streams.value.at(-1)];
  const dt_s = (last.time_ms - first.time_ms) / 1000;
  const grown = pick(last) - pick(first);
  return dt_s > 0 && grown >= 0 ? grown / dt_s : null;
}
// Of two figures that grow together; null while nothing grows.
function per(pick, each) {
  const [a, b] = [per_second(pick), per_second(each)];
  return a !== null && b > 0 ? a / b : null;
}
const of_connector = (name, pick) => (look) => {
  const c = look.connectors.find((x) => x.name === name);
  return c ? pick(c) : NaN;
};
const tones = { failing: 'bad', misconfigured: 'bad', paused: 'warn' };

function Tiles({ look }) {
  const log = look.stream;
  const brain = look.cost.brain;
  const late = look.connectors.filter((c) => c.state === 'failing' || c.state === 'misconfigured').length;
  return html`<dl class="tiles">
    <${Tile} label="Events" figure=${count(log.events_per_s)} sub="per second" />
    <${Tile} label="Not durable yet" figure=${ms(log.lag_ms)} sub="age of the oldest event" tone=${log.is_disk_ok ? '' : 'bad'} />
    <${Tile} label="Written" figure=${bytes(per_second((x) => x.stream.log_bytes))} sub="per second" />
    <${Tile} label="Lost" figure=${count(log.events_lost)} sub="events, all told" tone=${log.events_lost > 0 ? 'warn' : ''} />
    <${Tile} label="Brain" figure=${brain ? brain.cpu_cores.toFixed(2) : dash} sub="cores, the stream included" />
    <${Tile} label="Connectors" figure=${count(look.connectors.length)} sub=${late ? `${late} in trouble` : 'none in trouble'} tone=${late ? 'bad' : ''} />
  </dl>`;
}

function Log({ look }) {
  const log = look.stream;
  const block_bytes = per((x) => x.stream.log_bytes, (x) => x.stream.blocks);
  const block_events = per((x) => x.stream.events, (x) => x.stream.blocks);
  const event_bytes = per((x) => x.stream.log_bytes, (x) => x.stream.events);
  return html`<section class="panel" aria-labelledby="log-h">
    <header><h2 id="log-h">Log</h2><p class="hint">Blocks of the last minute.</p><span class="grow"></span><${CopyCli} text="foldback stream status" /></header>
    <${Pairs} rows=${[
      ['On disk', bytes(log.log_bytes)], ['Segments', count(log.segments)], ['Events from', count(log.first_offset)], ['Events to', count(log.next_offset)],
      ['Block', block_bytes === null ? dash : bytes(Math.round(block_bytes))], ['Events per block', count(block_events === null ? null : Math.round(block_events))],
      ['Bytes per event', event_bytes === null ? dash : event_bytes.toFixed(1)], ['Blocks per s', count(per_second((x) => x.stream.blocks))],
      ['Encryption', log.is_encrypted ? `key ${log.key_id}` : 'off'], ['Disk', log.is_disk_ok ? 'ok' : log.disk_error, log.is_disk_ok ? '' : 'bad'],
    ]} /></section>`;
}

function lag(c) {
  const events = count(c.lag_events);
  return !(c.lag_s > 0) ? events : `${c.lag_events === null ? '' : `${events}, `}${ms(c.lag_s * 1000)}`;
}

// Dead letters once more to their receiver; the answer comes before they have gone, so that what became of them is read
// from the connector.
function SendAgain({ c }) {
  const [said, say] = useState(null); // the order: { number } or { text }
  const order = said && c.letters_send?.number === said.number ? c.letters_send : null;
  const is_over = order && (order.state === 'done' || order.state === 'ended');
  const text = !said ? '' : said.text ?? (is_over ? `${count(order.sent)} delivered${order.text ? `, ${order.text}` : ''}` : 'sending');
  async function go() {
    try {
      const order_of = await call('POST', `/v1/connectors/${encodeURIComponent(c.name)}/letters/send`, { all: true, actor: 'dashboard' });
      say({ number: order_of.number });
    } catch (e) {
      say({ text: e.message });
    }
  }
  return html`${c.has_letters && html`<button type="button" class="quiet" disabled=${said && !said.text && !is_over} onClick=${go} aria-label=${`Send again: the dead letters of ${c.name}`}>Send again</button>`}
    <span role="status" class="hint">${text}</span>`;
}

function Connectors({ look }) {
  return html`<section class="panel" aria-labelledby="connectors-h">
    <header><h2 id="connectors-h">Connectors</h2><p class="hint">Rates of the last minute; counts since each was started.</p><span class="grow"></span><${CopyCli} text="foldback connector list" /></header>
    ${look.connectors.length === 0
      ? html`<p class="empty">None: name one under <code>connectors</code>, <code>handlers</code> or <code>scrapes</code> in the configuration.</p>`
      : html`<${Table} label="Connectors" head=${[['Name'], ['Type'], ['State'], ['Lag', 'n'], ['Events per s', 'n'], ['Bytes per s', 'n'], ['Events', 'n'], ['Errors', 'n'], ['Retries', 'n'], ['Dead letters', 'n'], ['Last error']]}>
        ${look.connectors.map((c) => html`<tr key=${c.name}><th scope="row">${c.name}</th><td>${c.type} ${c.direction}</td>
          <td class=${tones[c.state] ? 't-' + tones[c.state] : ''}>${c.state}</td><td class="n">${lag(c)}</td>
          <td class="n">${count(per_second(of_connector(c.name, (x) => x.events)))}</td><td class="n">${bytes(Math.round(per_second(of_connector(c.name, (x) => x.bytes)) ?? NaN))}</td>
          <td class="n">${count(c.events)}</td><td class="n">${count(c.errors)}</td><td class="n">${count(c.retries)}</td>
          <td class=${'n' + (c.dead ? ' t-bad' : '')}>${count(c.dead)}${c.direction === 'sink' ? html` <${SendAgain} c=${c} />` : ''}</td>
          <td class="says">${c.last_error ? `${c.last_error} (${ago(Date.parse(c.last_error_at), look.time_ms)})` : dash}</td></tr>`)}
      <//>`}</section>`;
}

export function Stream() {
  use_poll(s.load_stream, 2000);
  const look = s.streams.value.at(-1);
  if (!look) return html`<p class="empty">Asking.</p>`;
  return html`<${Tiles} look=${look} /><${Log} look=${look} /><${Connectors} look=${look} /><${Sources} look=${look} per_second=${per_second} /><${CustomFacts} /><${Query} />`;
}
