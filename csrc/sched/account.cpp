#include "sched/account.h"

#include <algorithm>

namespace forerun {

void Account::bring_forward(double amount) {
  const double moved = std::clamp(amount, 0.0, early_);
  early_ -= moved;
  balance_ += moved;
}

void Account::settle(int32_t tokens, double spent) {
  bring_forward(kEarlyIncome * tokens);
  balance_ += tokens - spent + kIncome * tokens;
  balance_ = std::clamp(balance_, kFloor, kMost);
  early_ = std::min(early_, kMost - std::max(balance_, 0.0));
}

}  // namespace forerun
