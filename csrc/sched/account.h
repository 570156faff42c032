#pragma once

#include <cstdint>

namespace forerun {

// What speculation may lose, in plain steps of one sequence. Every step adds what it won against
// plain decoding (negative when it lost) and an allowance per emitted token; nothing may be staked
// that the balance and kDebt do not cover, and below 0 nothing at all. The balance is capped, so
// that past success cannot pay for a long failure: over any W tokens at most kMost + kDebt +
// kIncome * W plain steps are lost, 2.9 % of 200 tokens. A short answer has little to lose: the
// account starts almost empty and fills with its tokens. The less there is, the smaller the part of
// it that one step may stake: what pays on average is ruined by a few large losses in a row, and
// then waits long for tokens to pay for another try.
class Account {
 public:
  static constexpr double kFirst = 0.5;      // balance at the start
  static constexpr double kIncome = 0.0125;  // per token
  static constexpr double kEarly = 2.25;     // comes in over the first tokens, on top
  static constexpr double kEarlyIncome = 0.02;
  static constexpr double kMost = 2.75;
  static constexpr double kDebt = 0.4;
  static constexpr double kCautious = 0.35;  // part of an empty account that may be staked at once
  static constexpr double kFloor = -3.0;  // a stumble of the machine is not held against drafting

  bool open() const { return balance_ >= 0.0; }
  double stake() const {
    const double part = kCautious + (1.0 - kCautious) * balance_ / kMost;
    return open() ? part * (balance_ + kDebt) : 0.0;
  }
  // For what must be paid before a drafter can help at all, also what would come in early.
  double starting_stake() const { return open() ? balance_ + early_ + kDebt : 0.0; }
  void bring_forward(double amount);  // of the early income, at most what is left of it

  // After a step: tokens emitted, of which all but the time of `spent` plain steps were won.
  void settle(int32_t tokens, double spent);
  double balance() const { return balance_; }

 private:
  double balance_ = kFirst, early_ = kEarly;
};

}  // namespace forerun
