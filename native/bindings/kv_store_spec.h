#pragma once

#include <memory>
#include <vector>

#include "bindings/arguments.h"
#include "store/kv_store.h"

namespace ucm::bindings {

/** The keys of a uint8 [n * 32]. */
std::vector<BlockKey> ReadKeys(const Reader& reader, const Napi::Value& value);

/** The store that a StoreSpec describes: in memory, in files, or in memory in front of files. */
std::shared_ptr<KvStore> OpenStore(const Reader& reader, const Napi::Value& spec);

}  // namespace ucm::bindings
