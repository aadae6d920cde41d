// SPDX-License-Identifier: Apache-2.0
// The frame: header, navigation, alerts, notices, sign-in; and the choice of the view by the URL's fragment.
import { html, render } from 'htm/preact';
import { signal, effect } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as s from './state.js';
import { clock } from './format.js';
import { Cache } from './cache.js';
import { Features } from './features.js';
import { Fleet } from './fleet.js';
import { Protocols } from './protocols.js';
import { Stream } from './stream.js';
import { Endpoints, Knobs, Overview, Requests, System } from './views.js';

const views = { overview: ['Overview', Overview], endpoints: ['Endpoints', Endpoints], protocols: ['Protocols', Protocols], cache: ['Cache', Cache], features: ['Features', Features], stream: ['Stream', Stream], fleet: ['Fleet', Fleet], knobs: ['Knobs', Knobs], requests: ['Requests', Requests], system: ['System', System] };
// "#/knobs": with the slash no reader takes it for a place on this page.
const of_url = () => (location.hash.slice(2) in views ? location.hash.slice(2) : 'overview');
const view = signal(of_url());
addEventListener('hashchange', () => {
  view.value = of_url();
  // A view begins at its top; focus alone would scroll its title under the header.
  document.getElementById('main')?.focus({ preventScroll: true });
  scrollTo(0, 0);
});

const connection_text = { connecting: 'Connecting', live: 'Live', lost: 'Reconnecting', denied: 'Signed out' };

function Mark() {
  return html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" /><path d="M8 21V12a4 4 0 0 1 4-4h8a4 4 0 0 1 0 8h-8m4-4-4 4 4 4" /></svg>`;
}

function Connection() {
  const is_paused = s.is_paused.value && s.connection.value === 'live';
  const text = is_paused ? 'Paused' : connection_text[s.connection.value];
  return html`<span class=${'connection c-' + (is_paused ? 'paused' : s.connection.value)} role="status" aria-live="polite"><span class="dot" aria-hidden="true"></span>${text}</span>`;
}

function ScopeSelect() {
  const m = s.live.value;
  const row = (kind) => (r) => html`<option key=${kind + r.name} value=${kind + ':' + r.name} selected=${s.scope.value === kind + ':' + r.name}>${r.name}</option>`;
  return html`<label class="field"><span class="unseen">Scope of the charts</span>
    <select value=${s.scope.value} onChange=${(e) => s.set_scope(e.currentTarget.value)}>
      <option value="all" selected=${s.scope.value === 'all'}>All traffic</option>
      ${m ? html`<optgroup label="Services">${m.services.map(row('service'))}</optgroup>
        <optgroup label="Routes">${m.routes.map(row('route'))}</optgroup>
        <optgroup label="Endpoints">${m.endpoints.map(row('endpoint'))}</optgroup>` : null}
    </select></label>`;
}

// On a narrow screen the links scroll: the one of this view must be among those that are seen.
function show_link(link) {
  const nav = link?.parentElement;
  if (nav && nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
}

function Header() {
  const nav = useRef(null);
  useEffect(() => show_link(nav.current?.querySelector('[aria-current]')), [view.value]);
  return html`<header class="top">
    <a class="brand" href="#/overview" aria-label="foldback, overview"><${Mark} /><span>foldback</span></a>
    <nav aria-label="Views" ref=${nav}>${Object.entries(views).map(([id, [label]]) => html`<a key=${id} href=${'#/' + id} aria-current=${view.value === id ? 'page' : undefined}>${label}</a>`)}</nav>
    <div class="tools"><${Connection} />
      <button onClick=${() => s.set_paused(!s.is_paused.value)} aria-pressed=${s.is_paused.value ? 'true' : 'false'}>${s.is_paused.value ? 'Resume' : 'Pause'}</button></div>
  </header>`;
}

function Bar() {
  return html`<div class="bar-row"><h1>${views[view.value][0]}</h1><span class="grow"></span>
    ${view.value === 'overview' ? html`<${ScopeSelect} />
      <div class="segments" role="group" aria-label="Time range">${[[120, '2 min'], [300, '5 min'], [600, '10 min']].map(([v, label]) => html`<button key=${v} aria-pressed=${s.range_s.value === v ? 'true' : 'false'} onClick=${() => (s.range_s.value = v)}>${label}</button>`)}</div>` : null}
  </div>`;
}

function Alerts() {
  const all = s.live.value?.alerts ?? [];
  if (all.length === 0) return null;
  return html`<section class="alerts" aria-label="Alerts">${all.slice(0, 5).map((a) => html`<p key=${a.reason + a.target.number} class=${'alert t-' + (a.severity === 'critical' ? 'bad' : 'warn')}>
    <b>${a.severity}</b><span>${a.text || a.reason}</span><span class="grow"></span><span class="since">${clock(Date.parse(a.time))}</span></p>`)}</section>`;
}

function Notice() {
  const n = s.notice.value;
  if (!n) return null;
  return html`<div class=${'notice t-' + n.kind} role="alert"><span>${n.text}</span><button class="quiet" aria-label="Dismiss" onClick=${() => (s.notice.value = null)}>✕</button></div>`;
}

function Login() {
  const [token, set] = useState('');
  return html`<main class="login" id="main"><${Mark} /><h1>foldback</h1>
    <p>Sign in with the admin token of this instance. On its machine, <code>foldback token</code> prints it.</p>
    <form onSubmit=${(e) => { e.preventDefault(); s.login(token); }}>
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" required value=${token} onInput=${(e) => set(e.currentTarget.value)} />
      <button class="primary">Sign in</button></form>
    <${Notice} /></main>`;
}

function App() {
  if (s.connection.value === 'denied') return html`<${Login} />`;
  const View = views[view.value][1];
  return html`<a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); document.getElementById('main').focus(); }}>Skip to content</a>
    <${Header} />
    <main id="main" tabindex="-1"><${Bar} /><${Alerts} /><${View} /></main>
    <${Notice} />
    <div class="unseen" aria-live="polite">${s.announced.value}</div>
    <footer>${s.status.value ? `${s.status.value.node} · foldback ${s.status.value.version}` : 'foldback'}</footer>`;
}

effect(() => {
  const is_alarmed = (s.live.value?.alerts ?? []).length > 0 || s.connection.value === 'lost';
  const want = is_alarmed ? '/favicon-alert.svg' : '/favicon.svg';
  const icon = document.getElementById('icon');
  if (icon.getAttribute('href') !== want) icon.setAttribute('href', want);
});
effect(() => {
  const n = s.notice.value;
  if (n && n.kind !== 'bad') setTimeout(() => s.notice.value === n && (s.notice.value = null), 4000);
});
render(html`<${App} />`, document.getElementById('app'));
s.start();
