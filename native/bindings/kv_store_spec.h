#pragma once

#include <memory>

#include "bindings/arguments.h"
#include "store/kv_store.h"

namespace ucm::bindings {

/** The store that a StoreSpec describes: in memory, in files, or in memory in front of files. */
std::shared_ptr<KvStore> OpenStore(const Reader& reader, const Napi::Value& spec);

}  // namespace ucm::bindings
