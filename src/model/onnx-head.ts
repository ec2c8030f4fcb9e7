import { createTensor } from "../onnx/index.js";
import type { Head, PartsContext } from "./dense-model.js";
import { createSegment, type SegmentContext } from "./segment.js";
import { finalNormSpec, headSpec } from "./tensor-names.js";

/** The head of one rank as a session of its own. */
export async function loadOnnxHead(context: PartsContext & SegmentContext): Promise<Head> {
  const { model, shard } = context;
  const s = createSegment("head", context);
  const spec = headSpec(model, shard);
  const normed = s.norm(s.input("hidden", model.hiddenSize), finalNormSpec(model));
  s.output(s.linear(normed, spec), "logits", spec.rows);
  const session = await s.finish();
  return {
    run: (hidden, rows, logits) =>
      session.run(
        { hidden: createTensor(hidden, [rows, model.hiddenSize]) },
        { logits: createTensor(logits, [rows, spec.rows]) },
      ),
    dispose: session.dispose,
  };
}
