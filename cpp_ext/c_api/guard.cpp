#include "c_api/guard.hpp"

#include <cstring>
#include <new>
#include <stdexcept>

#include "engine/errors.hpp"

namespace shortlist::c_api {
namespace {

// Cuts a long text before the character that does not fit whole.
shortlist_status report(shortlist_error* error, shortlist_status status, const char* text,
                        const char* more = "") {
  if (error == nullptr) return status;
  error->status = status;
  std::size_t size = 0;
  for (const char* part : {text, more}) {
    std::size_t n = std::strlen(part);
    const std::size_t room = sizeof error->message - 1 - size;
    if (n > room) {
      n = room;
      while (n > 0 && (static_cast<unsigned char>(part[n]) & 0xC0U) == 0x80U) --n;
    }
    std::memcpy(error->message + size, part, n);
    size += n;
  }
  error->message[size] = '\0';
  return status;
}

}  // namespace

shortlist_status report_success(shortlist_error* error) noexcept {
  return report(error, SHORTLIST_OK, "");
}

shortlist_status report_exception(shortlist_error* error) noexcept {
  constexpr const char* kMemory =
      "out of memory: the data does not fit; use a smaller batch, a smaller top_n, or storage "
      "float16 or int8";
  try {
    throw;
  } catch (const FileError& failure) {
    return report(error, SHORTLIST_FILE_ERROR, failure.what());
  } catch (const engine::RuntimeMissing& failure) {
    return report(error, SHORTLIST_NO_RUNTIME, failure.what());
  } catch (const engine::DeviceMissing& failure) {
    return report(error, SHORTLIST_NO_RUNTIME, failure.what());
  } catch (const engine::ThreadsMissing& failure) {
    return report(error, SHORTLIST_NO_RUNTIME, failure.what());
  } catch (const std::invalid_argument& failure) {
    return report(error, SHORTLIST_INVALID_ARGUMENT, failure.what());
  } catch (const std::bad_alloc&) {
    return report(error, SHORTLIST_OUT_OF_MEMORY, kMemory);
  } catch (const std::length_error&) {  // a container larger than any memory
    return report(error, SHORTLIST_OUT_OF_MEMORY, kMemory);
  } catch (const std::exception& failure) {
    return report(error, SHORTLIST_INTERNAL_ERROR, failure.what(),
                  "; expected this never to happen: please report it");
  } catch (...) {
    return report(error, SHORTLIST_INTERNAL_ERROR,
                  "an exception of unknown type; expected this never to happen: please report it");
  }
}

}  // namespace shortlist::c_api
