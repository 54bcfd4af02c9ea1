// Runs the page's code over vectors, one a line on standard input: `tallystick conformance client --help` says how.
import { createInterface } from 'node:readline';
import { Checks } from './check.mjs';

const bytes = (content) => (content === null ? null : Buffer.from(content.text ?? content.base64, 'text' in content ? 'utf8' : 'base64'));

for await (const line of createInterface({ input: process.stdin })) {
  const v = JSON.parse(line);
  const checks = new Checks(v.roots, { deadline: v.deadline, memory: v.remembers ?? null });
  let code = '';
  if (v.kind === 'answer') code = checks.judge(bytes(v.answer), v.nonce, v.feature, v.required);
  if (v.kind === 'files') code = checks.verify(bytes(v.keys), bytes(v.grant), v.device, v.now, v.feature, v.required);
  if (v.kind === 'socket') code = await checks.check(v.socket, v.feature, v.required);
  const m = checks.memory;
  console.log(`${code} ${checks.activated} ${m ? `${m.device},${m.epoch},${m.number},${m.moment}` : '-'}`);
}
