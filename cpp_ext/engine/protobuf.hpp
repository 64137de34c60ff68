// Protocol buffers as far as ONNX graphs need them (internal): the parts of a message in bytes that
// may be hostile, in one pass and without a copy. What other readers might take otherwise is
// refused: groups, numbers longer than theirs. https://protobuf.dev/programming-guides/encoding
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "shortlist/file_error.hpp"

namespace shortlist::engine {

// Texts, bytes and messages of a message, in their order; numbers are passed over.
//
//   for (MessageParts part(name, message); part.next();) use(part.field(), part.content());
class MessageParts {
 public:
  // `name` is what errors call the file; both are the caller's.
  MessageParts(const std::string& name, std::string_view message)
      : name_(name), message_(message) {}

  // Goes to the next part; false at the end. Throws FileError.
  bool next() {
    while (at_ < message_.size()) {
      const std::uint64_t tag = number(kTagBytes);
      field_ = static_cast<std::uint32_t>(tag >> 3);
      if (tag > 0xFFFFFFFFU || field_ == 0) throw_bad();
      switch (tag & 7U) {
        case 0:
          static_cast<void>(number(kNumberBytes));
          break;
        case 1:
          take(8);
          break;
        case 2:
          content_ = take(number(kSizeBytes));
          return true;
        case 5:
          take(4);
          break;
        default:
          throw_bad();
      }
    }
    return false;
  }
  std::uint32_t field() const { return field_; }
  std::string_view content() const { return content_; }

  [[noreturn]] void throw_bad() const {
    throw FileError(name_ +
                    ": expected a graph ONNX Runtime can open, found bytes that are no ONNX graph");
  }

 private:
  static constexpr std::size_t kTagBytes = 5, kSizeBytes = 5, kNumberBytes = 10;

  // Seven bits a byte, the lowest first.
  std::uint64_t number(std::size_t most_bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < most_bytes && at_ < message_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(message_[at_++]);
      value |= std::uint64_t{byte & 0x7FU} << (7 * i);
      if (byte < 0x80) return value;
    }
    throw_bad();
  }
  std::string_view take(std::uint64_t size) {
    if (size > message_.size() - at_) throw_bad();
    const std::string_view part = message_.substr(at_, static_cast<std::size_t>(size));
    at_ += part.size();
    return part;
  }

  const std::string& name_;
  std::string_view message_;
  std::size_t at_ = 0;
  std::uint32_t field_ = 0;
  std::string_view content_;
};

}  // namespace shortlist::engine
