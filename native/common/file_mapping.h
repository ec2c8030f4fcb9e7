#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"

namespace ucm {

/**
 * A regular file mapped read-only and shared. The file must not shrink while it is mapped: reading
 * past its new end raises SIGBUS.
 */
class FileMapping {
  public:
    static Status Open(const std::string& path, std::unique_ptr<FileMapping>* mapping);
    ~FileMapping();
    FileMapping(const FileMapping&) = delete;
    FileMapping& operator=(const FileMapping&) = delete;

    const uint8_t* data() const { return data_; }
    int64_t byte_length() const { return byte_length_; }

  private:
    FileMapping(const uint8_t* data, int64_t byte_length)
        : data_(data), byte_length_(byte_length) {}

    const uint8_t* data_;
    int64_t byte_length_;
};

}  // namespace ucm
