// IndexView::save: compact if updated, temporary file, fsync, rename.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "shortlist/index.hpp"
#include "src/file/index_file.hpp"
#include "src/segments/repack.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {
namespace {

[[noreturn]] void throw_errno(const std::string& action, const std::string& path) {
  throw FileError(path + ": cannot " + action + ": " + std::strerror(errno) +
                  "; expected a writable place with enough room");
}

// An open file beside `target` that is closed, and removed unless kept. Its name is new: neither a
// file that a killed process left nor a save of the same index on another thread is in the way.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) {
    static std::atomic<unsigned> n_files{0};
    do {
      path_ = target + ".tmp" + std::to_string(::getpid()) + "." + std::to_string(n_files++);
      fd_ = ::open(path_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    } while (fd_ < 0 && errno == EEXIST);
    if (fd_ < 0) throw_errno("create", path_);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!is_kept_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, std::size_t size) {
    const char* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = ::write(fd_, bytes, size);
      if (written < 0) {
        if (errno == EINTR) continue;
        throw_errno("write", path_);
      }
      bytes += written;
      size -= static_cast<std::size_t>(written);
    }
  }

  void rename_to(const std::string& path) {
    if (::fsync(fd_) != 0) throw_errno("sync", path_);
    if (::rename(path_.c_str(), path.c_str()) != 0) throw_errno("replace", path);
    is_kept_ = true;
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (folder_fd >= 0) {  // the rename itself reaches the disk; best effort on odd file systems
      (void)::fsync(folder_fd);
      ::close(folder_fd);
    }
  }

 private:
  std::string path_;
  int fd_ = -1;
  bool is_kept_ = false;
};

struct Part {
  std::uint32_t tag;
  const void* data;
  std::size_t size;
};

// `kept` holds what is mapped for the parts.
std::vector<Part> parts_of(const Snapshot& snapshot, std::shared_ptr<const void>& kept) {
  std::vector<Part> parts;
  const Segment& segment = *snapshot.segments.front().segment;
  const PackedItems& packed = segment.packed;
  const std::size_t n_numbers = segment.vectors.n_rows * snapshot.dim;
  if (!is_approximate(snapshot.storage)) {
    const void* rows = segment.vectors.data;
    if (segment.row_file != nullptr) {
      kept = segment.row_file->map();
      rows = kept.get();
    }
    parts.push_back({file::kRows, rows, n_numbers * bytes_per_number(snapshot.storage)});
  }
  if (!packed.is_empty()) {
    if (packed.codes != nullptr) {
      parts.push_back({file::kCodes, packed.codes, packed.n_blocks * packed.block_bytes()});
    }
    parts.push_back({file::kStats, packed.stats, kStatsPerBlock * packed.n_blocks * 8});
    if (packed.nibbles != nullptr) {
      parts.push_back(
          {file::kNibbles, packed.nibbles, packed.n_blocks * packed.nibble_block_bytes()});
    }
    if (packed.quarters != nullptr) {
      parts.push_back(
          {file::kQuarters, packed.quarters, packed.n_blocks * packed.quarter_block_bytes()});
    }
    if (packed.nibble_stats != nullptr) {
      parts.push_back(
          {file::kNibbleStats, packed.nibble_stats, kNibbleStatsPerBlock * packed.n_blocks * 8});
    }
    if (packed.order != nullptr) {
      parts.push_back({file::kOrder, packed.order, packed.n_items * sizeof(std::uint32_t)});
    }
  }
  if (packed.scales != nullptr) {
    parts.push_back({file::kScales, packed.scales, packed.n_items * sizeof(float)});
  }
  const ItemIds& ids = *snapshot.ids;
  if (ids.kind() == ItemIds::Kind::int64) {
    parts.push_back({file::kIntIds, ids.values().data(), ids.size() * sizeof(std::int64_t)});
  } else if (ids.kind() == ItemIds::Kind::string) {
    parts.push_back({file::kIdBytes, ids.bytes().data(), ids.bytes().size()});
    parts.push_back(
        {file::kIdOffsets, ids.offsets().data(), ids.offsets().size() * sizeof(std::int64_t)});
  }
  return parts;
}

std::size_t align_up(std::size_t value) {
  return (value + file::kAlignment - 1) / file::kAlignment * file::kAlignment;
}

file::Header header_of(const Snapshot& snapshot, const std::vector<Part>& parts) {
  file::Header header;
  std::memset(&header, 0, sizeof header);
  std::memcpy(header.magic, file::kMagic, sizeof header.magic);
  header.version = file::kVersion;
  header.n_sections = static_cast<std::uint32_t>(parts.size());
  header.metric = static_cast<std::uint32_t>(snapshot.metric);
  header.id_kind = static_cast<std::uint32_t>(snapshot.ids->kind());
  header.n_items = snapshot.n_items;
  header.dim = snapshot.dim;
  header.storage = static_cast<std::uint32_t>(snapshot.storage);
  header.recall = snapshot.recall;
  std::size_t offset = align_up(sizeof header);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    header.sections[i] = {parts[i].tag, 0, offset, parts[i].size,
                          file::checksum(parts[i].data, parts[i].size)};
    offset = align_up(offset + parts[i].size);
  }
  header.file_size = offset;
  header.checksum = file::checksum(&header, offsetof(file::Header, checksum));
  return header;
}

// In one segment, without the rows of removed items.
std::shared_ptr<const Snapshot> dense(const std::shared_ptr<const Snapshot>& snapshot) {
  const bool is_dense = snapshot->live_ids == nullptr && snapshot->segments.size() == 1;
  return is_dense ? snapshot : compacted(*snapshot);
}

// Gives the bytes of the file to `write`, piece by piece.
template <class Write>
void write_file(const Snapshot& snapshot, const Write& write) {
  std::shared_ptr<const void> kept;
  const std::vector<Part> parts = parts_of(snapshot, kept);
  const file::Header header = header_of(snapshot, parts);
  const char zeros[file::kAlignment] = {};
  write(&header, sizeof header);
  std::size_t position = sizeof header;
  for (const Part& part : parts) {
    write(zeros, align_up(position) - position);
    position = align_up(position);
    if (part.size > 0) write(part.data, part.size);
    position += part.size;
  }
  write(zeros, align_up(position) - position);
}

}  // namespace

void IndexView::save(const std::string& path) const {
  const std::shared_ptr<const Snapshot> snapshot = dense(snapshot_);
  TemporaryFile temporary(path);
  write_file(*snapshot,
             [&temporary](const void* data, std::size_t size) { temporary.write(data, size); });
  temporary.rename_to(path);
}

std::string IndexView::to_bytes() const {
  std::string bytes;
  write_file(*dense(snapshot_), [&bytes](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  });
  return bytes;
}

}  // namespace shortlist
