import type { SpanName, Tracer } from "../profile/index.js";
import type { LoadedModel } from "./load-model.js";
import type { StepModel, StepPartners } from "./model-runner.js";
import type { Sampler } from "./sampler.js";
import type { BeforeLayer } from "./store-runner.js";

// What a profile has to tell is told around the parts of a worker, so that they know nothing of it and
// cost nothing more without one.

/** `call` as a span. */
function traced<Args extends unknown[], Result>(
  tracer: Tracer,
  name: SpanName,
  call: (...args: Args) => Result,
): (...args: Args) => Result {
  return (...args) => {
    tracer.begin(name);
    try {
      return call(...args);
    } finally {
      tracer.end();
    }
  };
}

/** The model with spans for its layers' dense segments and attention, and for its head. */
export function traceModel(model: LoadedModel, tracer: Tracer): StepModel {
  const { arena, dense } = model;
  return {
    ...model,
    embed: traced(tracer, "embed", model.embed),
    arena: {
      beginStep: traced(tracer, "prepare attention", (batch) => arena.beginStep(batch)),
      forward(input, out) {
        tracer.begin("attention", input.layer);
        arena.forward(input, out);
        tracer.end();
      },
    },
    dense: {
      ...dense,
      async forward(hidden, rows, attend) {
        // A dense span ends where the attention of its layer begins.
        tracer.begin("dense", 0);
        await dense.forward(hidden, rows, (layer, qkv, attended) => {
          tracer.end();
          attend(layer, qkv, attended);
          tracer.begin("dense", layer + 1);
        });
        tracer.end();
      },
      async head(hidden, rows, logits) {
        tracer.begin("head");
        await dense.head(hidden, rows, logits);
        tracer.end();
      },
    },
  };
}

export function traceSampler(sampler: Sampler, tracer: Tracer): Sampler {
  return { ...sampler, sample: traced(tracer, "sample", sampler.sample) };
}

/** The other ranks and sparse attention; `comm` stays what native code knows. */
export function tracePartners({ comm, sparse }: StepPartners, tracer: Tracer): StepPartners {
  return {
    comm: comm ? traceCommunicator(comm, tracer) : null,
    sparse: sparse
      ? {
          begin: traced(tracer, "sparse", (...args) => sparse.begin(...args)),
          settle: traced(tracer, "sparse", (...args) => sparse.settle(...args)),
          describe: traced(tracer, "sparse", (...args) => sparse.describe(...args)),
          finishStep: traced(tracer, "sparse", (...args) => sparse.finishStep(...args)),
          takeNews: () => sparse.takeNews(),
        }
      : null,
  };
}

/** Exchanges of a step as spans; those within a segment lie in its span. */
export function traceCommunicator<Comm extends NonNullable<StepPartners["comm"]>>(
  comm: Comm,
  tracer: Tracer,
): NonNullable<StepPartners["comm"]> {
  const name = "exchange with ranks";
  return {
    allReduceSum: traced(tracer, name, (values) => comm.allReduceSum(values)),
    gatherColumns: traced(tracer, name, (...args) => comm.gatherColumns(...args)),
    broadcast: traced(tracer, name, (values) => comm.broadcast(values)),
    noteProgress: () => comm.noteProgress(),
    noteIdle: () => comm.noteIdle(),
    dispose: () => comm.dispose(),
  };
}

export function traceBeforeLayer(before: BeforeLayer | null, tracer: Tracer): BeforeLayer | null {
  return before && traced(tracer, "wait for load", before);
}
