// SPDX-License-Identifier: Apache-2.0
// Numbers for people.  What is not known is a dash, never a zero.
export const dash = '–';
const known = (v) => typeof v === 'number' && Number.isFinite(v);

export function count(v) {
  if (!known(v)) return dash;
  const size = Math.abs(v);
  if (size >= 1e9) return (v / 1e9).toFixed(1) + ' G';
  if (size >= 1e6) return (v / 1e6).toFixed(size >= 1e7 ? 1 : 2) + ' M';
  if (size >= 1e4) return (v / 1e3).toFixed(1) + ' k';
  if (size >= 100 || Number.isInteger(v)) return Math.round(v).toLocaleString('en');
  return v.toFixed(size >= 10 ? 1 : 2);
}
export function ms(v) {
  if (!known(v)) return dash;
  if (v >= 10_000) return (v / 1000).toFixed(1) + ' s';
  if (v >= 1000) return (v / 1000).toFixed(2) + ' s';
  if (v >= 100 || v === 0) return v.toFixed(0) + ' ms';
  return v.toFixed(v >= 10 ? 1 : 2) + ' ms';
}
export function pct(v) {
  if (!known(v)) return dash;
  const p = v * 100;
  return (p === 0 || p === 100 ? p.toFixed(0) : p >= 10 && p < 99 ? p.toFixed(1) : p.toFixed(2)) + ' %';
}
export function bytes(v) {
  if (!known(v)) return dash;
  for (const [unit, size] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]])
    if (v >= size) return (v / size).toFixed(v >= 100 * size ? 0 : 1) + ' ' + unit;
  return v + ' B';
}
// Seconds that nobody would count: 40 s, 12 min, 9 h, 6 days.
export function span(s) {
  if (!known(s)) return dash;
  if (s >= 172_800) return `${Math.round(s / 86_400).toLocaleString('en')} days`;
  if (s >= 7200) return `${Math.round(s / 3600)} h`;
  return s >= 120 ? `${Math.round(s / 60)} min` : `${Math.max(0, Math.round(s))} s`;
}
// A knob's value in its unit.
export function value(v, unit) {
  if (!known(v)) return dash;
  const text = Number.isInteger(v) ? v.toLocaleString('en') : Number(v.toPrecision(4)).toLocaleString('en');
  return unit && unit !== 'level' ? `${text} ${unit}` : text;
}
// Sentences come from the program, where "->" is all that a terminal is sure to have; a line may break inside of that.
export const arrows = (sentence) => sentence.replaceAll(' -> ', '\u00a0→ ');
export const clock = (time_ms) => new Date(time_ms).toLocaleTimeString('en-GB');
export function ago(time_ms, now_ms) {
  const s = Math.max(0, Math.round((now_ms - time_ms) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 72_000) return clock(time_ms);
  return new Date(time_ms).toISOString().slice(0, 10); // a time of day would be taken for today's
}
// "shop 10.0.0.1:80" beside its service "shop" is "10.0.0.1:80".
export const short = (name, service) =>
  service && name.startsWith(service + ' ') ? name.slice(service.length + 1) : name;
