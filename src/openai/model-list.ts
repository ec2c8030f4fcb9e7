/** What GET /v1/models says of the served model. */
export interface ServedModel {
  names: readonly string[];
  /** Folder of the checkpoint. */
  path: string;
  /** Tokens of prompt and output together. */
  maxModelLen: number;
}

/**
 * The body of GET /v1/models: one card per served name.
 *
 * @param created Unix time in seconds.
 * @param newId makes the random part of a permission's id.
 */
export function modelList(model: ServedModel, created: number, newId: () => string) {
  const data = model.names.map((name) => ({
    id: name,
    object: "model",
    created,
    owned_by: "ucm",
    root: model.path,
    parent: null,
    max_model_len: model.maxModelLen,
    permission: [permission(created, newId())],
  }));
  return { object: "list", data };
}

function permission(created: number, id: string) {
  return {
    id: `modelperm-${id}`,
    object: "model_permission",
    created,
    allow_create_engine: false,
    allow_sampling: true,
    allow_logprobs: true,
    allow_search_indices: false,
    allow_view: true,
    allow_fine_tuning: false,
    organization: "*",
    group: null,
    is_blocking: false,
  };
}
