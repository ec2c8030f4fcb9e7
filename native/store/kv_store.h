#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "store/block_key.h"
#include "store/load_batch.h"

namespace ucm {

/** Where a block was found. */
enum class Presence : uint8_t { kMissing = 0, kMemory = 1, kFile = 2 };

/** A block to copy into the store: `data` is read only during the call. */
struct DumpSource {
    BlockKey key;
    const uint8_t* data;
};

/** Named counts and sizes of one tier; see store_stats.h. */
struct TierStats {
    std::string tier;
    std::vector<std::pair<const char*, int64_t>> values;
};

using LookupDone = std::function<void(std::vector<Presence>)>;
/** One status per block, in the order asked for. */
using BlocksDone = std::function<void(std::vector<BlockStatus>)>;

/**
 * A cache of KV blocks by key. What it gives back is what was put in, byte for byte, or nothing:
 * every failure of memory or disk ends as a status of the block concerned.
 *
 * All calls are safe from any thread and return without waiting for a device. Completions run
 * exactly once, on a thread of the store or on the caller's, before or after the call returns; they
 * must not block and must not call Close.
 */
class KvStore {
  public:
    virtual ~KvStore() = default;

    virtual const BlockShape& shape() const = 0;

    /** The blocks in memory, now; kMissing where only a device knows. */
    virtual std::vector<Presence> LookupMemory(std::span<const BlockKey> keys) = 0;
    virtual void Lookup(std::vector<BlockKey> keys, LookupDone done) = 0;

    /**
     * Fills the batch's blocks in layer order. Memory of a block may be written to until the batch
     * is finished, and not after; it is whole only where the status is kOk.
     */
    virtual void Load(std::shared_ptr<LoadBatch> batch) = 0;

    /**
     * Fills pieces, single layers of blocks, `shape().layer_bytes()` each, checked like whole blocks.
     * `done` gets a status for each; memory may be written to until then, and not after.
     */
    virtual void LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) = 0;

    /**
     * Copies the blocks out before it returns; they may change afterwards. A block that is there
     * already, or is refused for lack of room, costs no copy.
     */
    virtual void Dump(std::span<const DumpSource> blocks, BlocksDone done) = 0;

    /** Keeps blocks from eviction, here and by other servers, once per call. kOk where it holds. */
    virtual void Pin(std::vector<BlockKey> keys, BlocksDone done) = 0;
    virtual void Unpin(std::vector<BlockKey> keys) = 0;

    /** Removes blocks, pinned or not. kOk where one was there. */
    virtual void Forget(std::vector<BlockKey> keys, BlocksDone done) = 0;

    virtual std::vector<TierStats> Stats() const = 0;

    /**
     * Completes what is under way, for at most `patience`, and fails the rest with kUnavailable or
     * kTimeout. Nothing completes after it; later calls complete with kUnavailable.
     */
    virtual void Close(std::chrono::milliseconds patience) = 0;
};

}  // namespace ucm
