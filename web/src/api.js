// SPDX-License-Identifier: Apache-2.0
// What the page asks of the admin API: JSON calls, and streams read through fetch, so that a refusal shows its
// reason (EventSource hides it).

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.remedy = body?.remedy ?? '';
    this.position = body?.position ?? 0; // in what was sent, from 1
  }
}

export async function call(method, path, body, headers = {}) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: 'same-origin',
    cache: 'no-store',
  });
  const text = await answer.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    /* a proxy in between; the status says enough */
  }
  if (!answer.ok) throw new Problem(answer.status, value);
  return value;
}
export const get = (path) => call('GET', path);

const idle_ms = 30_000; // the server says something at least each 15 s

// Reads server-sent events until <signal> aborts or the stream ends; on_message(name, value).
export async function follow(path, signal, on_open, on_message) {
  const answer = await fetch(path, { signal, credentials: 'same-origin', cache: 'no-store' });
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
  on_open();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    let timer;
    const silence = new Promise((_, fail) => {
      timer = setTimeout(() => fail(new Error('no sign for 30 s')), idle_ms);
    });
    const part = await Promise.race([reader.read(), silence]).finally(() => clearTimeout(timer));
    if (part.done) return;
    rest += part.value;
    for (let cut; (cut = rest.indexOf('\n\n')) >= 0; rest = rest.slice(cut + 2)) {
      let name = 'message';
      let data = '';
      for (const line of rest.slice(0, cut).split('\n')) {
        if (line.startsWith('event: ')) name = line.slice(7);
        else if (line.startsWith('data: ')) data += line.slice(6);
      }
      if (data) on_message(name, JSON.parse(data));
    }
  }
}
