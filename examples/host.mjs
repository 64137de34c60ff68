// A Node host: a raw history in, item ids out, in one run of ONNX Runtime. Its Node package cannot
// load operators, so it takes the portable graph: the engine's answers up to float32 rounding.
//
//   npm install onnxruntime-node
//   node examples/host.mjs movies.shortlist 10  50 172 181
import { createRequire } from "node:module";
import { cwd } from "node:process";

const ort = createRequire(`${cwd()}/`)("onnxruntime-node");
const [bundle, topN, ...history] = process.argv.slice(2);

// What the request does not tell is missing: INT64_MIN, "" or NaN.
const missing = { int64: -(2n ** 63n), string: "", float32: NaN };
const make = {
  int64: (values) => BigInt64Array.from(values, BigInt),
  string: (values) => values,
  float32: (values) => Float32Array.from(values),
};

function input({ name, type, shape }) {
  const given = { history, top_n: [topN] }[name] ?? [];
  const dims = shape.map((size) => (typeof size === "number" && size > 0 ? size : 1));
  if (name.startsWith("history")) dims[1] = Math.max(1, history.length);
  const size = dims.reduce((product, dim) => product * dim, 1);
  const values = Array.from({ length: size }, (_, i) => given[i] ?? missing[type]);
  return new ort.Tensor(type, make[type](values), dims);
}

const session = await ort.InferenceSession.create(`${bundle}/recommend_portable.onnx`, {
  intraOpNumThreads: 1,
  logSeverityLevel: 3, // errors
});
const feeds = Object.fromEntries(session.inputMetadata.map((value) => [value.name, input(value)]));
const found = await session.run(feeds, ["item_ids", "scores", "counts"]);
for (let i = 0; i < Number(found.counts.data[0]); i++) {
  console.log(`${found.item_ids.data[i]} ${found.scores.data[i]}`);
}
