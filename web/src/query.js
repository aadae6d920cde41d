// SPDX-License-Identifier: Apache-2.0
// A question to the log in SQL, and its answer as a table.
import { html } from 'htm/preact';
import { useRef, useState } from 'preact/hooks';
import { call } from './api.js';
import { CopyCli, Table } from './parts.js';
import { count, dash, ms } from './format.js';

const rows_max = 200; // more than that is for a file: foldback events query
const first = 'SELECT service, count(*) AS requests, p99(total_us) AS p99_us\nFROM request GROUP BY service ORDER BY requests DESC';

const shown = (v) => (v === null ? dash : typeof v === 'number' && !Number.isInteger(v) ? String(Math.abs(v) < 1e6 ? +v.toPrecision(6) : v) : String(v));
const is_number = (type) => type === 'integer' || type === 'real';

function Answer({ answer }) {
  const more = answer.is_cut ? `, the first ${count(answer.row_count)} of more` : '';
  return html`<p class="hint" role="status">${count(answer.row_count)} rows${more}; ${count(answer.events_read)} events read in ${ms(answer.took_ms)}.</p>
    ${answer.row_count === 0 ? null : html`<${Table} label="Answer" head=${answer.columns.map((c) => [c.name, is_number(c.type) ? 'n' : ''])}>
      ${answer.rows.map((row, i) => html`<tr key=${i}>${row.map((v, k) => html`<td key=${k} class=${is_number(answer.columns[k].type) ? 'n' : ''}>${shown(v)}</td>`)}</tr>`)}
    <//>`}`;
}

export function Query() {
  const [sql, set_sql] = useState(first);
  const [answer, set_answer] = useState(null);
  const [problem, set_problem] = useState('');
  const [is_busy, set_busy] = useState(false);
  const field = useRef(null);
  const ask = async (event) => {
    event.preventDefault();
    if (is_busy) return;
    set_busy(true);
    try {
      set_answer(await call('POST', '/v1/events/query', { sql, limit: rows_max }));
      set_problem('');
    } catch (e) {
      set_answer(null);
      set_problem(e.position ? `${e.message} (character ${e.position})` : e.message);
      if (e.position) field.current?.setSelectionRange(e.position - 1, e.position);
    } finally {
      set_busy(false);
    }
  };
  const on_key = (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) ask(event);
  };
  return html`<section class="panel" aria-labelledby="query-h">
    <header><h2 id="query-h">Ask the log</h2><p class="hint">Up to the last event on disk; personal fields are hidden.</p><span class="grow"></span>
      <${CopyCli} text=${`foldback events query '${sql.replaceAll("'", "'\\''")}'`} /></header>
    <form class="filter" onSubmit=${ask}>
      <label for="query">SQL</label>
      <textarea id="query" ref=${field} rows="3" spellcheck=${false} autocomplete="off" value=${sql} onInput=${(e) => set_sql(e.currentTarget.value)} onKeyDown=${on_key}
        aria-invalid=${problem ? 'true' : 'false'} aria-describedby="query-help"></textarea>
      <button class="primary" aria-disabled=${is_busy ? 'true' : 'false'}>${is_busy ? 'Asking' : 'Ask'}</button>
    </form>
    <p id="query-help" role=${problem ? 'alert' : null} class=${problem ? 'hint t-bad' : 'hint'}>${problem || 'Ctrl+Enter asks. A table per event type: request, decision, outcome, health, gauge, alert, events and others.'}</p>
    ${answer ? html`<${Answer} answer=${answer} />` : null}
  </section>`;
}
