#include "backend/cuda/batch_upload.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace forerun::cuda {
namespace {

// Byte offsets of the parts. A part has room for a power of two of entries, so that kernels find
// all of them where they were while a batch grows a little.
struct Parts {
  int64_t rows = 0, path = 0, first_page = 0, pages = 0, end = 0;
};

template <typename Entry>
int64_t room(size_t count) {
  return static_cast<int64_t>(std::bit_ceil(std::max<size_t>(count, 64)) * sizeof(Entry));
}

Parts parts_of(const AttentionBatch& batch) {
  size_t pages = 0;
  for (const auto& sequence : batch.pages) pages += sequence.size();
  Parts parts;
  parts.path = room<AttentionRow>(batch.rows.size());
  parts.first_page = parts.path + room<int32_t>(batch.path.size());
  parts.pages = parts.first_page + room<int32_t>(batch.pages.size());
  parts.end = parts.pages + static_cast<int64_t>(pages * sizeof(std::byte*));
  return parts;
}

void fill(const AttentionBatch& batch, const Parts& parts, std::byte* out) {
  std::byte* page = out + parts.pages;
  int32_t first = 0;
  for (size_t sequence = 0; sequence < batch.pages.size(); ++sequence) {
    const auto pages = batch.pages[sequence];
    std::memcpy(out + parts.first_page + static_cast<int64_t>(sequence * sizeof(int32_t)), &first,
                sizeof(first));
    if (!pages.empty()) std::memcpy(page, pages.data(), pages.size_bytes());
    page += pages.size_bytes();
    first += static_cast<int32_t>(pages.size());
  }
  if (!batch.rows.empty())
    std::memcpy(out + parts.rows, batch.rows.data(), batch.rows.size_bytes());
  if (!batch.path.empty())
    std::memcpy(out + parts.path, batch.path.data(), batch.path.size_bytes());
}

}  // namespace

DeviceBatch BatchUpload::put(const AttentionBatch& batch, Staging& staging, cudaStream_t stream) {
  const Parts parts = parts_of(batch);
  wanted_.assign(static_cast<size_t>(parts.end), std::byte{0});  // what is between the parts too
  fill(batch, parts, wanted_.data());
  if (wanted_ != present_) {
    if (memory_.bytes() < parts.end) {
      present_.clear();
      memory_ = DeviceMemory(std::max<int64_t>(2 * parts.end, 64 * 1024), "the batch description");
    }
    present_.clear();  // an upload that throws leaves nothing to rely on
    ++uploads_;
    staging.upload(memory_.data(), wanted_.data(), parts.end, stream);
    std::swap(present_, wanted_);
  }
  DeviceBatch device;
  device.layout = batch.layout;
  device.pages = reinterpret_cast<std::byte* const*>(memory_.data() + parts.pages);
  device.rows = reinterpret_cast<const AttentionRow*>(memory_.data() + parts.rows);
  device.path = reinterpret_cast<const int32_t*>(memory_.data() + parts.path);
  device.first_page = reinterpret_cast<const int32_t*>(memory_.data() + parts.first_page);
  device.count = static_cast<int32_t>(batch.rows.size());
  int32_t last = 0;
  for (const AttentionRow& row : batch.rows) last = std::max(last, row.position);
  device.spans = last / kSpanPositions + 1;
  return device;
}

}  // namespace forerun::cuda
