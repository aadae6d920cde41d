// SPDX-License-Identifier: Apache-2.0
// Line charts (uPlot) with decision marks, a lane of decisions above them, a heatmap, sparklines.
import { html } from 'htm/preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { useSignalEffect } from '@preact/signals';
import uPlot from 'uplot';
import * as s from './state.js';
import { clock, count } from './format.js';

export const axis_px = 58; // left axis: the lane above must begin where the plot begins
export const verdict_of = (d) => (d.outcome ? (d.outcome.verdict.startsWith('no') ? 'none' : d.outcome.verdict) : d.is_applied ? 'open' : 'advice');

// Colours come from the style sheet, so that charts follow the scheme of the system.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const scheme = matchMedia('(prefers-color-scheme: dark)');

function use_scheme() {
  const [is_dark, set] = useState(scheme.matches);
  useEffect(() => {
    const on = () => set(scheme.matches);
    scheme.addEventListener('change', on);
    return () => scheme.removeEventListener('change', on);
  }, []);
  return is_dark;
}

function draw_marks(u) {
  const { ctx, bbox } = u;
  ctx.save();
  const seen = s.decisions.value.filter((d) => d.time_ms / 1000 >= u.scales.x.min);
  const alpha = Math.max(0.12, Math.min(0.5, 12 / seen.length)); // many marks must not hide the lines
  for (const d of seen) {
    const x = u.valToPos(d.time_ms / 1000, 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const is_selected = d.id === s.selected.value;
    ctx.strokeStyle = colour('mark-' + verdict_of(d));
    ctx.globalAlpha = is_selected ? 1 : alpha;
    ctx.lineWidth = (is_selected ? 2 : 1) * devicePixelRatio;
    ctx.setLineDash(is_selected ? [] : [3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function options(width, height, lines, format) {
  const axis = {
    stroke: colour('muted'),
    grid: { stroke: colour('grid'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui, sans-serif',
  };
  return {
    width,
    height,
    padding: [8, 10, 0, 0],
    cursor: { sync: { key: 'foldback' }, points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: false },
    scales: { x: { time: true }, y: { range: (u, lo, hi) => [0, hi > 0 ? hi * 1.12 : 1] } },
    axes: [
      { ...axis, size: 26, space: 70, values: (u, at) => at.map((t) => clock(t * 1000).slice(0, 8)) },
      { ...axis, size: axis_px, space: 34, values: (u, at) => at.map(format) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 1.75,
        fill: line.fill ? colour(line.colour + '-soft') : undefined,
        dash: line.dash,
        points: { show: false },
        spanGaps: false,
      })),
    ],
    hooks: { draw: [draw_marks] },
  };
}

// The part of the series that the chosen range shows, with a fixed left end so that time moves evenly.
function visible(lines) {
  const all = s.series.value;
  if (!all || all.t.length === 0) return null;
  const end = all.t.at(-1);
  const from = all.t.findIndex((t) => t >= end - s.range_s.value);
  return {
    data: [all.t.slice(from), ...lines.map((line) => all[line.column].slice(from))],
    min: end - s.range_s.value,
    max: end,
  };
}

export function Chart({ title, lines, format, height = 132, unit }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [at, set_at] = useState(null);
  const is_dark = use_scheme();
  useEffect(() => {
    const element = box.current;
    const opts = options(element.clientWidth || 300, height, lines, format);
    opts.hooks.setCursor = [(u) => set_at(u.cursor.idx ?? null)];
    plot.current = new uPlot(opts, [[], ...lines.map(() => [])], element);
    plot.current.over.addEventListener('click', () => {
      // The nearest decision within 10 px of the click.
      const u = plot.current;
      const near = s.decisions.value
        .map((d) => ({ d, px: Math.abs(u.valToPos(d.time_ms / 1000, 'x') - u.cursor.left) }))
        .sort((a, b) => a.px - b.px)[0];
      if (near && near.px < 10) s.selected.value = near.d.id;
    });
    const shown = visible(lines);
    if (shown) {
      plot.current.setData(shown.data, false);
      plot.current.setScale('x', { min: shown.min, max: shown.max });
    }
    const watch = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [is_dark]);
  useSignalEffect(() => {
    s.selected.value; // marks are redrawn with the data
    s.decisions.value;
    const shown = visible(lines);
    if (!plot.current) return;
    if (!shown) {
      plot.current.setData([[], ...lines.map(() => [])]);
      return;
    }
    plot.current.setData(shown.data, false);
    plot.current.setScale('x', { min: shown.min, max: shown.max });
  });
  const shown = visible(lines);
  const index = at ?? (shown ? shown.data[0].length - 1 : -1);
  return html`<figure class="chart">
    <figcaption>
      <span class="chart-title">${title}</span>
      <span class="legend">
        ${lines.map((line, i) => html`<span class="key" key=${line.column}>
          <span class=${'swatch c-' + line.colour + (line.dash ? ' dashed' : '')} aria-hidden="true"></span>${line.label}
          <b>${shown && index >= 0 ? format(shown.data[i + 1][index]) : '–'}${unit ?? ''}</b>
        </span>`)}
      </span>
    </figcaption>
    <div class="plot" ref=${box} role="img" aria-label=${`${title}, last ${s.range_s.value / 60} minutes. ${lines
      .map((line, i) => `${line.label}: ${shown ? format(shown.data[i + 1].at(-1)) : 'unknown'}`)
      .join(', ')}`}></div>
  </figure>`;
}

// Decisions as buttons over the time axis; those closer than a finger's width share one.
export function Lane() {
  const box = useRef(null);
  const [width, set_width] = useState(600);
  useEffect(() => {
    const watch = new ResizeObserver(() => box.current && set_width(box.current.clientWidth));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const end = s.series.value?.t.at(-1) ?? s.now_ms.value / 1000;
  const from = end - s.range_s.value;
  const groups = [];
  for (const d of [...s.decisions.value].reverse()) {
    const at = ((d.time_ms / 1000 - from) / s.range_s.value) * width;
    if (at < 0 || at > width) continue;
    const x = Math.max(12, Math.min(at, width - 14));
    const last = groups.at(-1);
    if (last && x - last.x < 28) last.all.push(d);
    else groups.push({ x, all: [d] });
  }
  return html`<div class="lane">
    <span class="lane-label">Decisions</span>
    <div class="lane-track" ref=${box} role="group" aria-label="Decisions on the time axis">
      ${groups.map((g) => {
        const d = g.all.at(-1);
        const rank = ['worse', 'better', 'open', 'none', 'unknown', 'advice'];
        const worst = g.all.map(verdict_of).sort((a, b) => rank.indexOf(a) - rank.indexOf(b))[0];
        const is_selected = g.all.some((x) => x.id === s.selected.value);
        return html`<button key=${g.all[0].id} class=${'mark v-' + worst + (is_selected ? ' is-selected' : '')}
          style=${{ left: `${g.x - 12}px` }} title=${d.sentence}
          aria-label=${g.all.length > 1 ? `${g.all.length} decisions, newest ${d.id}: ${d.knob} of ${d.target.name}` : `Decision ${d.id}: ${d.knob} of ${d.target.name}`}
          aria-pressed=${is_selected ? 'true' : 'false'}
          onClick=${() => (s.selected.value = d.id)}>${g.all.length > 1 ? (g.all.length > 99 ? '99' : g.all.length) : ''}</button>`;
      })}
    </div>
  </div>`;
}

// ---- heatmap ----
function quantile(counts, bounds, q) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0) return null;
  let sum = 0;
  for (let i = 0; i < counts.length; i++) {
    sum += counts[i];
    if (sum >= q * total) return bounds[i];
  }
  return bounds.at(-1);
}

function mix(low, high, share) {
  const parse = (c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16));
  const [a, b] = [parse(low), parse(high)];
  return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * share)).join(',')})`;
}

function draw_heat(canvas, m, first, last, rows) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (m.t.length === 0 || width <= axis_px || height <= 8) return; // hidden: no answer yet
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const g = canvas.getContext('2d');
  g.scale(ratio, ratio);
  const end = m.t.at(-1);
  const from = end - s.range_s.value;
  const plot = { x: axis_px, w: width - axis_px - 10, h: height - 8 };
  const cell_h = plot.h / rows;
  let most = 1;
  for (const column of m.counts) for (let b = first; b <= last; b++) most = Math.max(most, column[b]);
  // The square root shows the thin second mode that a linear scale would hide.
  const shades = Array.from({ length: 33 }, (_, i) => mix(colour('heat-low'), colour('heat-high'), i / 32));
  const step = plot.w / s.range_s.value;
  for (let i = 0; i < m.t.length; i++) {
    if (m.t[i] < from) continue;
    const x = plot.x + (m.t[i] - from) * step;
    for (let b = first; b <= last; b++) {
      const v = m.counts[i][b];
      if (v === 0) continue;
      g.fillStyle = shades[Math.ceil(Math.sqrt(v / most) * 32)];
      g.fillRect(x, plot.h - (b - first + 1) * cell_h, Math.max(1, step + 0.6), cell_h - 1);
    }
  }
  g.fillStyle = colour('muted');
  g.font = '11px system-ui, sans-serif';
  g.textAlign = 'right';
  g.textBaseline = 'middle';
  const every = Math.ceil(14 / cell_h);
  for (let b = first; b <= last; b += every)
    g.fillText(bound_text(m.bounds_ms[b]), axis_px - 8, plot.h - (b - first + 0.5) * cell_h);
}
const bound_text = (v) => (v >= 1000 ? v / 1000 + ' s' : v + ' ms');

export function Heatmap() {
  const canvas = useRef(null);
  const is_dark = use_scheme();
  const m = s.heat.value;
  const shown = m ? m.counts.slice(-s.range_s.value) : [];
  let first = 24;
  let last = 0;
  for (const column of shown)
    column.forEach((v, b) => {
      if (v > 0) {
        first = Math.min(first, b);
        last = Math.max(last, b);
      }
    });
  const is_empty = first > last;
  first = Math.max(0, Math.min(first, 23) - 1);
  last = Math.min(23, Math.max(last + 1, first + 5));
  useEffect(() => {
    const draw = () => m && canvas.current && draw_heat(canvas.current, m, first, last, last - first + 1);
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(canvas.current);
    return () => watch.disconnect();
  }, [m, is_dark, first, last, s.range_s.value]);
  // The alternative in text: quantiles per sixth of the range.
  const parts = [];
  if (m && shown.length > 0) {
    const size = Math.ceil(shown.length / 6);
    const times = m.t.slice(-s.range_s.value);
    for (let i = 0; i < shown.length; i += size) {
      const sum = shown.slice(i, i + size).reduce((a, c) => a.map((x, b) => x + c[b]), Array(24).fill(0));
      parts.push({ from: times[i], to: times[Math.min(i + size, times.length) - 1], sum });
    }
  }
  return html`<section class="panel" aria-labelledby="heat-h">
    <header><h2 id="heat-h">Latency heatmap</h2><p class="hint">Answers per second and latency; a stronger colour holds more. Two bands are two kinds of answers.</p></header>
    ${is_empty ? html`<p class="empty">No answer in this time.</p>` : null}
    <canvas class="heat" hidden=${is_empty} ref=${canvas} role="img" aria-label="Latency heatmap; the table below says the same in figures"></canvas>
    <details hidden=${is_empty}><summary>As a table</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="Latency quantiles"><table>
        <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col" class="n">Answers</th><th scope="col" class="n">p50 ≤</th><th scope="col" class="n">p90 ≤</th><th scope="col" class="n">p99 ≤</th></tr></thead>
        <tbody>${parts.map((p) => html`<tr key=${p.from}><td>${clock(p.from * 1000)}</td><td>${clock(p.to * 1000)}</td>
          <td class="n">${count(p.sum.reduce((a, b) => a + b, 0))}</td>
          ${[0.5, 0.9, 0.99].map((q) => html`<td class="n" key=${q}>${quantile(p.sum, m.bounds_ms, q) === null ? '–' : bound_text(quantile(p.sum, m.bounds_ms, q))}</td>`)}</tr>`)}</tbody>
      </table></div>
    </details>
  </section>`;
}

// The last minute of a figure; decoration, so hidden from readers: the number stands beside it.
export function Spark({ points, tone = 'accent' }) {
  const known = (points ?? []).filter((v) => v !== null && v !== undefined);
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 60 18" aria-hidden="true"></svg>`;
  const top = Math.max(...known) || 1;
  const path = points
    .map((v, i) => (v === null || v === undefined ? null : `${(i * 60) / (points.length - 1)},${16 - (v / top) * 14}`))
    .filter(Boolean)
    .join(' ');
  return html`<svg class=${'spark t-' + tone} viewBox="0 0 60 18" preserveAspectRatio="none" aria-hidden="true"><polyline points=${path} /></svg>`;
}
