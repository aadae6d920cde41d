// SPDX-License-Identifier: Apache-2.0
// The view of protocols: what clients speak, TLS and its certificates, HTTP/2 and its floods.
import { html } from 'htm/preact';
import * as s from './state.js';
import { CopyCli, Pairs, Table, Tile, use_poll } from './parts.js';
import { count, dash, pct, span } from './format.js';

const causes = { client_cert: 'client certificate', not_tls: 'not TLS' };
const words = (name) => causes[name] ?? name.replaceAll('_', ' ');
const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

// What grew in the last minute, per second; null until there are two looks.
function per_second(pick) {
  const [first, last] = [s.protocols.value[0], s.protocols.value.at(-1)];
  const dt_s = first && (Date.parse(last.time) - Date.parse(first.time)) / 1000;
  return dt_s > 0 ? Math.max(0, pick(last) - pick(first)) / dt_s : null;
}
// Share of <all>: of the last minute when something came, else of all so far.
function share(pick, all) {
  const recent = per_second(all);
  const last = s.protocols.value.at(-1);
  if (recent > 0) return per_second(pick) / recent;
  return all(last) > 0 ? pick(last) / all(last) : null;
}

function Share({ of }) {
  return html`<span class="load"><span class="bar" aria-hidden="true"><span style=${{ width: (of ?? 0) * 100 + '%' }}></span></span><span>${pct(of)}</span></span>`;
}

function Shares({ label, head, rows, all }) {
  return html`<${Table} label=${label} head=${[[head], ['Share'], ['Per second', 'n'], ['So far', 'n']]}>
    ${rows.map(([name, pick]) => html`<tr key=${name}><th scope="row" class=${name.startsWith('gRPC') ? 'sub' : ''}>${name}</th><td><${Share} of=${share(pick, all)} /></td>
      <td class="n">${count(per_second(pick))}</td><td class="n">${count(pick(s.protocols.value.at(-1)))}</td></tr>`)}
  <//>`;
}

const requests = (x) => total(x.protocols.requests);
const http_rows = [
  ['HTTP/1', (x) => x.protocols.requests.http1],
  ['HTTP/2', (x) => x.protocols.requests.http2],
];
const tcp_row = ['TCP, passed through', (x) => x.protocols.requests.tcp];
const grpc_rows = [
  ['gRPC', (x) => total(x.protocols.grpc)],
  ['gRPC, failed', (x) => x.protocols.grpc.failed],
];
const tls_rows = [
  ['TLS 1.3', (x) => x.protocols.tls['1.3']],
  ['TLS 1.2', (x) => x.protocols.tls['1.2']],
  ['No TLS', (x) => x.protocols.tls.none],
];
const full = (x) => x.tls.handshakes - x.tls.resumed;
const failed = (x) => total(x.tls.failed);
const handshakes = (x) => x.tls.handshakes + failed(x);

function Tiles({ st }) {
  const h2 = st.protocols.http2;
  const floods = total(h2.floods);
  const bad = share(failed, handshakes);
  return html`<dl class="tiles">
    <${Tile} label="Connections" figure=${count(st.gateway.connections)} sub="of clients, open" />
    <${Tile} label="HTTP/2" figure=${count(h2.connections)} sub="of these connections" />
    <${Tile} label="Streams" figure=${count(h2.streams_open)} sub="HTTP/2, at work" />
    <${Tile} label="Handshakes" figure=${count(per_second(handshakes))} sub="TLS, per second" />
    <${Tile} label="Failed" figure=${pct(bad)} sub="of handshakes" tone=${bad > 0.05 ? 'warn' : ''} />
    <${Tile} label="Floods" figure=${count(floods)} sub="connections ended" tone=${floods > 0 ? 'warn' : ''} />
  </dl>`;
}

// "in 89 days", and hours on the last day.
function left(days) {
  if (days === null) return dash;
  if (days < 0) return 'over';
  return days < 1 ? `${Math.floor(days * 24)} h` : days < 2 ? '1 day' : `${Math.floor(days).toLocaleString('en')} days`;
}
const cert_tone = (days) => (days < 7 ? 'bad' : days < 14 ? 'warn' : 'good');

// "2.1 d old, 4.9 d left": what is left of it is what matters, so it has the colour.
function staple(c) {
  if (typeof c.staple_age_s !== 'number') return html`<span class="muted">none</span>`;
  if (typeof c.staple_left_s !== 'number') return `${span(c.staple_age_s)} old`;
  if (c.staple_left_s <= 0) return html`<span class="chip t-bad">over</span>`;
  return html`${span(c.staple_age_s)} old, <span class=${c.staple_left_s < (c.staple_age_s + c.staple_left_s) / 4 ? 'chip t-warn' : ''}>${span(c.staple_left_s)} left</span>`;
}

function Certificates({ all }) {
  const sorted = [...all].sort((a, b) => a.days_left - b.days_left);
  return html`<section class="panel" aria-labelledby="certs-h">
    <header><h2 id="certs-h">Certificates</h2><p class="hint">The one that ends first comes first.</p></header>
    <${Table} label="Certificates" head=${[['Left'], ['Name'], ['Ends'], ['OCSP answer'], ['File']]}>
      ${sorted.map((c) => html`<tr key=${c.file + c.name}><td><span class=${'chip t-' + cert_tone(c.days_left)}>${left(c.days_left)}</span></td><th scope="row">${c.name}</th>
        <td>${c.ends?.slice(0, 10) ?? dash}</td><td>${staple(c)}</td><td class="muted">${c.file}</td></tr>`)}
    <//></section>`;
}

function Handshakes({ st }) {
  const faults = Object.entries(st.tls.failed).filter(([, n]) => n > 0);
  const rows = [
    ['Resumed', (x) => x.tls.resumed],
    ['Full', full],
    ...faults.map(([cause]) => [`Failed: ${words(cause)}`, (x) => x.tls.failed[cause]]),
  ];
  return html`<section class="panel" aria-labelledby="handshakes-h">
    <header><h2 id="handshakes-h">TLS handshakes</h2><span class="grow"></span><${CopyCli} text="foldback status" /></header>
    ${handshakes(st) === 0
      ? html`<p class="empty">No handshake yet.</p>`
      : html`<${Shares} label="TLS handshakes" head="Handshake" rows=${rows} all=${handshakes} />
        ${faults.length === 0 ? html`<p class="hint note">None failed.</p>` : null}`}
  </section>`;
}

function Http2({ h2 }) {
  const tone = (n) => (n > 0 ? 'warn' : '');
  return html`<section class="panel" aria-labelledby="http2-h">
    <header><h2 id="http2-h">HTTP/2 of clients</h2><p class="hint">A flood is a connection that overdrew a budget; foldback ended it.</p></header>
    ${h2.streams === 0 && h2.control_frames === 0 && h2.connections === 0
      ? html`<p class="empty">No client spoke HTTP/2 yet.</p>`
      : html`<${Pairs} rows=${[
          ['Streams so far', count(h2.streams)], ['Refused, too many', count(h2.refused), tone(h2.refused)],
          ['Reset by clients', count(h2.resets_by_client)], ['Reset by foldback', count(h2.resets_by_foldback)],
          ['Frames without effect', count(h2.control_frames)], ['Floods of resets', count(h2.floods.resets), tone(h2.floods.resets)],
          ['Floods of such frames', count(h2.floods.control), tone(h2.floods.control)], ['Header bombs', count(h2.floods.headers), tone(h2.floods.headers)],
        ]} />`}
  </section>`;
}

export function Protocols() {
  use_poll(s.load_protocols, 2000);
  const st = s.protocols.value.at(-1);
  if (!st) return html`<p class="empty">Asking.</p>`;
  const has_grpc = total(st.protocols.grpc) > 0;
  const has_tls = st.tls.certificates.length > 0 || handshakes(st) > 0;
  return html`<${Tiles} st=${st} />
  <div class="halves">
    <section class="panel" aria-labelledby="spoken-h">
      <header><h2 id="spoken-h">Requests by protocol</h2><p class="hint">Share of the last minute.</p></header>
      <${Shares} label="Requests by protocol" head="Client speaks" rows=${has_grpc ? [...http_rows, ...grpc_rows, tcp_row] : [...http_rows, tcp_row]} all=${requests} />
      ${has_grpc ? null : html`<p class="hint note">No gRPC call so far.</p>`}
    </section>
    <section class="panel" aria-labelledby="versions-h">
      <header><h2 id="versions-h">Requests by TLS version</h2><p class="hint">Share of the last minute.</p></header>
      <${Shares} label="Requests by TLS version" head="Client speaks" rows=${tls_rows} all=${requests} />
    </section>
    ${has_tls
      ? html`<${Handshakes} st=${st} />`
      : html`<section class="panel" aria-labelledby="handshakes-h"><header><h2 id="handshakes-h">TLS handshakes</h2></header><p class="empty">No listener speaks TLS: <code>tls: { cert, key }</code> at an address below <code>listen</code>.</p></section>`}
    <${Http2} h2=${st.protocols.http2} />
  </div>
  ${st.tls.certificates.length ? html`<${Certificates} all=${st.tls.certificates} />` : null}`;
}
