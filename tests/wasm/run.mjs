// Builds nothing: runs the module that `cargo build --target wasm32-unknown-unknown` made (.ci/run), and compares what a
// network gives in it with the same network natively. usage: node run.mjs MODULE NATIVE_OUTPUT
import { readFileSync } from "node:fs";

const [module, native] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(module), {});
const { memory, scores, scores_len } = instance.exports;
const start = scores();
const values = Array.from(new Float32Array(memory.buffer, start, scores_len()));
const expected = readFileSync(native, "utf8").trim().split(/\s+/).map(Number);
if (values.length !== expected.length || values.length === 0) {
  throw new Error(`${values.length} values, natively ${expected.length}`);
}
const largest = Math.max(...values.map((value, i) => Math.abs(value - expected[i])));
console.log(`wasm: ${values.length} values, largest difference from native ${largest}`);
if (!(largest <= 1e-6)) process.exit(1);
