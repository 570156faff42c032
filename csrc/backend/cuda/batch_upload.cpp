#include "backend/cuda/batch_upload.h"

#include <algorithm>
#include <cstring>

namespace forerun::cuda {
namespace {

// Byte offsets of the parts: pages first, since they are 8 bytes each.
struct Parts {
  int64_t pages = 0, rows = 0, path = 0, first_page = 0, end = 0;
};

Parts parts_of(const AttentionBatch& batch) {
  int64_t pages = 0;
  for (const auto& sequence : batch.pages) pages += static_cast<int64_t>(sequence.size());
  Parts parts;
  parts.rows = pages * static_cast<int64_t>(sizeof(std::byte*));
  parts.path = parts.rows + static_cast<int64_t>(batch.rows.size_bytes());
  parts.first_page = parts.path + static_cast<int64_t>(batch.path.size_bytes());
  parts.end = parts.first_page + static_cast<int64_t>(batch.pages.size() * sizeof(int32_t));
  return parts;
}

void fill(const AttentionBatch& batch, const Parts& parts, std::byte* out) {
  std::byte* page = out;
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
  wanted_.resize(static_cast<size_t>(parts.end));
  fill(batch, parts, wanted_.data());
  if (wanted_ != present_) {
    if (memory_.bytes() < parts.end) {
      present_.clear();
      memory_ = DeviceMemory(std::max<int64_t>(2 * parts.end, 64 * 1024), "the batch description");
    }
    present_.clear();  // an upload that throws leaves nothing to rely on
    staging.upload(memory_.data(), wanted_.data(), parts.end, stream);
    std::swap(present_, wanted_);
  }
  DeviceBatch device;
  device.layout = batch.layout;
  device.pages = reinterpret_cast<std::byte* const*>(memory_.data());
  device.rows = reinterpret_cast<const AttentionRow*>(memory_.data() + parts.rows);
  device.path = reinterpret_cast<const int32_t*>(memory_.data() + parts.path);
  device.first_page = reinterpret_cast<const int32_t*>(memory_.data() + parts.first_page);
  device.count = static_cast<int32_t>(batch.rows.size());
  for (const AttentionRow& row : batch.rows)
    device.max_position = std::max(device.max_position, row.position);
  return device;
}

}  // namespace forerun::cuda
