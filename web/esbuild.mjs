// SPDX-License-Identifier: Apache-2.0
// Bundles src/ into DIST: index.html, favicons, assets/NAME-HASH.{js,css}.  Usage: node esbuild.mjs DIST
import { build } from 'esbuild';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const dist = process.argv[2] ?? 'dist';
mkdirSync(dist, { recursive: true });
const made = await build({
  entryPoints: ['src/main.js', 'src/style.css'],
  outdir: join(dist, 'assets'),
  entryNames: '[name]-[hash]',
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022', 'chrome109', 'firefox115', 'safari16'],
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});
const outputs = Object.keys(made.metafile.outputs).map((file) => basename(file));
const pick = (name, ext) => outputs.find((file) => file.startsWith(name + '-') && file.endsWith(ext));
const page = readFileSync('src/index.html', 'utf8')
  .replace('main.js', 'assets/' + pick('main', '.js'))
  .replace('style.css', 'assets/' + pick('style', '.css'));
writeFileSync(join(dist, 'index.html'), page);
for (const icon of ['favicon.svg', 'favicon-alert.svg']) cpSync(join('src', icon), join(dist, icon));
