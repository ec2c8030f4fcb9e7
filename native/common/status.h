#pragma once

#include <string>
#include <utility>

namespace ucm {

enum class StatusCode { kOk, kInvalidArgument, kOutOfMemory, kIo, kUnsupported };

/** Outcome of a core operation. The core throws nothing; bindings turn a failed Status into a JS
 * error. */
class [[nodiscard]] Status {
  public:
    Status() = default;
    Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

    static Status Ok() { return {}; }
    static Status InvalidArgument(std::string message) {
        return {StatusCode::kInvalidArgument, std::move(message)};
    }

    bool ok() const { return code_ == StatusCode::kOk; }
    StatusCode code() const { return code_; }
    const std::string& message() const { return message_; }

  private:
    StatusCode code_ = StatusCode::kOk;
    std::string message_;
};

}  // namespace ucm

/** Returns from the calling function when `expression` is a failed Status. */
#define UCM_RETURN_IF_ERROR(expression)          \
    do {                                         \
        ::ucm::Status ucm_status = (expression); \
        if (!ucm_status.ok()) return ucm_status; \
    } while (false)
