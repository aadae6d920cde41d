// SPDX-License-Identifier: Apache-2.0
// What several views are made of.
import { html } from 'htm/preact';
import { useEffect, useState } from 'preact/hooks';
import * as s from './state.js';
import { Spark } from './charts.js';

export function CopyCli({ text }) {
  const [is_done, set] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set(true);
      setTimeout(() => set(false), 1500);
    } catch {
      s.say('info', text);
    }
  };
  return html`<button class="cli" onClick=${copy} title=${text} aria-label=${'Copy as CLI: ' + text}>
    <span aria-hidden="true">❯_</span> ${is_done ? 'Copied' : 'Copy as CLI'}</button>`;
}

// Sentences of the tables of the program, which set words of the configuration in backticks.
export const prose = (text) => text.split('`').map((part, i) => (i % 2 ? html`<code key=${i}>${part}</code>` : part));

export function Table({ label, head, children }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label + ', table'}><table>
    <thead><tr>${head.map(([text, cls]) => html`<th key=${text} scope="col" class=${cls ?? ''}>${text || html`<span class="unseen">Actions</span>`}</th>`)}</tr></thead>
    <tbody>${children}</tbody></table></div>`;
}

export function Tile({ label, figure, sub, tone, points }) {
  return html`<div class=${'tile' + (tone ? ' t-' + tone : '')}>
    <dt>${label}</dt><dd><span class="figure">${figure}</span><span class="sub">${sub}</span></dd>
    <${Spark} points=${points} tone=${tone ?? 'accent'} />
  </div>`;
}

export function Pairs({ rows }) {
  return html`<dl class="pairs wide">${rows.map(([name, v, tone]) => html`<div key=${name}><dt>${name}</dt><dd class=${tone ? 't-' + tone : ''}>${v}</dd></div>`)}</dl>`;
}

// Asks now and each <ms>, while somebody looks and the page is not paused.
export function use_poll(work, ms) {
  useEffect(() => {
    const again = () => document.hidden || s.is_paused.value || work().catch(() => {});
    again();
    const timer = setInterval(again, ms);
    return () => clearInterval(timer);
  }, []);
}
