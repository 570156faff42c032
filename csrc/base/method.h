#pragma once

namespace forerun {

// One line of a list of drafters, policies or verifiers.
struct Method {
  const char* name;
  const char* summary;
  const char* paper;     // where it comes from; "" for our own
  bool lossless = true;  // false: may change the text, and must be asked for by name
  bool grown = false;    // of a drafter: its tree grows by a policy
};

}  // namespace forerun
