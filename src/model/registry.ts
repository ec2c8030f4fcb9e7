import { UcmError } from "../errors/index.js";
import type { HfConfig } from "./hf-config.js";
import type { ModelConfig } from "./model-config.js";

/**
 * What sets one architecture of the Llama family apart. All share: RMS norm before attention and MLP,
 * rotate-half RoPE, grouped-query attention, SwiGLU MLP, tensor names `model.layers.N.…`. To add one:
 * an entry here, its golden checkpoint in test/fixtures/golden.
 */
export interface Architecture {
  /** As config.json's `architectures` names it. */
  name: string;
  /** Head dimension when config.json gives none; null: hidden size over heads. */
  defaultHeadDim: number | null;
  switches(hf: HfConfig): Pick<ModelConfig, "qkvBias" | "outputBias" | "mlpBias" | "qkNorm">;
}

const plain = { qkvBias: false, outputBias: false, mlpBias: false, qkNorm: false };

/** Defaults are those of the Hugging Face implementation of each architecture. */
export const architectures: readonly Architecture[] = [
  { name: "Qwen2ForCausalLM", defaultHeadDim: null, switches: () => ({ ...plain, qkvBias: true }) },
  {
    name: "Qwen3ForCausalLM",
    defaultHeadDim: 128,
    switches: (hf) => {
      const bias = hf.attention_bias ?? false;
      return { ...plain, qkvBias: bias, outputBias: bias, qkNorm: true };
    },
  },
  {
    name: "LlamaForCausalLM",
    defaultHeadDim: null,
    switches: (hf) => {
      const bias = hf.attention_bias ?? false;
      return { ...plain, qkvBias: bias, outputBias: bias, mlpBias: hf.mlp_bias ?? false };
    },
  },
  { name: "MistralForCausalLM", defaultHeadDim: null, switches: () => plain },
];

/** The first registered architecture that `names` lists. UCM_ERR_MODEL_UNSUPPORTED if there is none. */
export function architectureOf(names: readonly string[], path: string): Architecture {
  const found = architectures.find(({ name }) => names.includes(name));
  if (found !== undefined) return found;
  const known = architectures.map(({ name }) => name).join(", ");
  throw new UcmError(
    "UCM_ERR_MODEL_UNSUPPORTED",
    `${path}: architecture ${names.join(", ")} is not supported; expected one of ${known}.`,
  );
}
