#include "draft/trigram_table.h"

#include <algorithm>
#include <bit>
#include <set>
#include <string>

#include "base/error.h"
#include "base/hash.h"

namespace forerun {
namespace {

constexpr float kTextShare[] = {0.6F};
constexpr float kLeastMove = 0.4F;  // share that an observation has at least
constexpr float kPairTrust = 0.5F;  // observations after which the pair counts as much as the one
constexpr float kUnit = 65535.0F;
constexpr uint64_t kCorpus = 0x636F72707573;  // salt of what every tenant may see
constexpr uint32_t kMostSeen = 1U << 20;

uint64_t key_of(uint64_t salt, int32_t before, int32_t last) {
  const uint64_t pair =
      (static_cast<uint64_t>(static_cast<uint32_t>(before)) << 32) | static_cast<uint32_t>(last);
  return std::max<uint64_t>(mix64(mix64(pair) + salt), 1);
}

}  // namespace

TrigramTable::TrigramTable(uint64_t max_bytes) {
  if (max_bytes < kLeastBytes) {
    throw Error(ErrorKind::kBadArgument, "trigram table: " + std::to_string(max_bytes) +
                                             " bytes, expected at least " +
                                             std::to_string(kLeastBytes));
  }
  sets_ = std::bit_floor(max_bytes / (kWays * sizeof(Slot)));
  slots_.resize(sets_ * kWays);
}

TrigramTable::Slot* TrigramTable::find(uint64_t key) {
  Slot* const set = &slots_[(key & (sets_ - 1)) * kWays];
  Slot* const found = std::find_if(set, set + kWays, [key](const Slot& s) { return s.key == key; });
  if (found == set + kWays) return nullptr;
  found->used = ++clock_;
  return found;
}

TrigramTable::Slot& TrigramTable::make(uint64_t key) {
  if (Slot* const found = find(key)) return *found;
  Slot* const set = &slots_[(key & (sets_ - 1)) * kWays];
  Slot& oldest = *std::min_element(set, set + kWays, [this](const Slot& a, const Slot& b) {
    return clock_ - a.used > clock_ - b.used;  // the clock may run over
  });
  oldest = {};
  oldest.key = key;
  oldest.used = ++clock_;
  return oldest;
}

void TrigramTable::observe(uint64_t key, std::span<const int32_t> best,
                           std::span<const float> shares) {
  Slot& slot = make(key);
  const float move = std::max(1.0F / static_cast<float>(slot.seen + 1), kLeastMove);
  slot.seen = std::min(slot.seen + 1, kMostSeen);
  std::array<Successor, 2 * kRanks> merged;
  size_t count = 0;
  for (int32_t i = 0; i < kRanks && slot.share[i] > 0; ++i) {
    merged[count++] = {slot.token[i], (1.0F - move) * static_cast<float>(slot.share[i]) / kUnit};
  }
  size_t rank = 0;
  for (const int32_t token : best) {
    if (token < 0) continue;
    if (rank == std::min<size_t>(shares.size(), kRanks)) break;
    const auto end = merged.begin() + static_cast<ptrdiff_t>(count);
    auto at =
        std::find_if(merged.begin(), end, [&](const Successor& s) { return s.token == token; });
    if (at == end) {
      merged[count++] = {token, 0.0F};
    }
    at->share += move * shares[rank++];
  }
  std::sort(merged.begin(), merged.begin() + static_cast<ptrdiff_t>(count),
            [](const Successor& a, const Successor& b) {
              return a.share != b.share ? a.share > b.share : a.token < b.token;
            });
  for (size_t i = 0; i < kRanks; ++i) {
    const float share = i < count ? merged[i].share : 0.0F;
    slot.token[i] = i < count ? merged[i].token : 0;
    slot.share[i] = static_cast<uint16_t>(std::min(share, 1.0F) * kUnit);
  }
}

void TrigramTable::rank(uint64_t salt, int32_t before, int32_t last, std::span<const int32_t> best,
                        std::span<const float> shares) {
  if (best.empty() || best[0] < 0) return;
  observe(key_of(salt, -1, last), best, shares);
  if (before >= 0) observe(key_of(salt, before, last), best, shares);
}

void TrigramTable::read(uint64_t salt, std::span<const int32_t> text) {
  for (size_t i = 1; i < text.size(); ++i) {
    observe(key_of(salt, -1, text[i - 1]), text.subspan(i, 1), kTextShare);
    if (i >= 2) observe(key_of(salt, text[i - 2], text[i - 1]), text.subspan(i, 1), kTextShare);
  }
}

void TrigramTable::read_corpus(const TokenText& texts, uint64_t size) {
  int32_t before = -1, last = -1;
  for (uint64_t at = 0; at < size; ++at) {
    const int32_t token = texts.token(at);
    const std::span<const int32_t> next(&token, 1);
    if (token >= 0 && last >= 0) observe(key_of(kCorpus, -1, last), next, kTextShare);
    if (token >= 0 && before >= 0) observe(key_of(kCorpus, before, last), next, kTextShare);
    before = token >= 0 ? last : -1;
    last = token;
  }
}

TrigramTable::Slot* TrigramTable::find(uint64_t salt, int32_t before, int32_t last) {
  Slot* const own = find(key_of(salt, before, last));
  return own != nullptr ? own : find(key_of(kCorpus, before, last));
}

void TrigramTable::successors(uint64_t salt, int32_t before, int32_t last,
                              std::vector<Successor>& out) {
  out.clear();
  const Slot* const pair = before >= 0 ? find(salt, before, last) : nullptr;
  const float weight = pair != nullptr ? static_cast<float>(pair->seen) /
                                             (static_cast<float>(pair->seen) + kPairTrust)
                                       : 0.0F;
  for (int32_t i = 0; pair != nullptr && i < kRanks && pair->share[i] > 0; ++i) {
    out.push_back({pair->token[i], weight * static_cast<float>(pair->share[i]) / kUnit});
  }
  const Slot* const one = find(salt, -1, last);
  for (int32_t i = 0; one != nullptr && i < kRanks && one->share[i] > 0; ++i) {
    const float share = (1.0F - weight) * static_cast<float>(one->share[i]) / kUnit;
    const auto known = std::find_if(out.begin(), out.end(),
                                    [&](const Successor& s) { return s.token == one->token[i]; });
    if (known == out.end()) {
      out.push_back({one->token[i], share});
    } else {
      known->share += share;
    }
  }
  std::sort(out.begin(), out.end(), [](const Successor& a, const Successor& b) {
    return a.share != b.share ? a.share > b.share : a.token < b.token;
  });
}

void TrigramTable::save(StateWriter& out) const {
  std::vector<const Slot*> order;
  for (const Slot& slot : slots_) {
    if (slot.key != 0) order.push_back(&slot);
  }
  std::sort(order.begin(), order.end(),
            [this](const Slot* a, const Slot* b) { return clock_ - a->used > clock_ - b->used; });
  out.put(kRanks);
  out.put(static_cast<uint64_t>(order.size()));
  for (const Slot* slot : order) {
    out.put(slot->key);
    out.put(slot->seen);
    out.put_all(std::span<const int32_t>(slot->token));
    out.put_all(std::span<const uint16_t>(slot->share));
  }
}

void TrigramTable::load(ByteCursor in, int32_t vocab) {
  constexpr uint64_t kSaved =
      sizeof(uint64_t) + sizeof(uint32_t) + kRanks * (sizeof(int32_t) + sizeof(uint16_t));
  if (in.read<int32_t>("ranks") != kRanks) in.fail("saved with another number of ranks");
  const auto count = in.read<uint64_t>("slots");
  in.check_count(count, kSaved, "slots");
  for (uint64_t i = 0; i < count; ++i) {
    const auto key = in.read<uint64_t>("key");
    if (key == 0) in.fail("an empty slot");
    Slot& slot = make(key);
    slot.seen = std::min(in.read<uint32_t>("observations"), kMostSeen);
    for (int32_t& token : slot.token) {
      token = in.read<int32_t>("token");
      if (token < 0 || token >= vocab) {
        in.fail("token " + std::to_string(token) + " is not in the vocabulary");
      }
    }
    for (uint16_t& share : slot.share) share = in.read<uint16_t>("share");
    if (!std::is_sorted(slot.share.rbegin(), slot.share.rend())) in.fail("shares do not fall");
    const auto used = std::find(slot.share.begin(), slot.share.end(), 0) - slot.share.begin();
    std::set<int32_t> different(slot.token.begin(), slot.token.begin() + used);
    if (different.size() != static_cast<size_t>(used)) in.fail("a token twice in a slot");
  }
  if (in.remaining() > 0) in.fail("bytes after the end");
}

}  // namespace forerun
