#pragma once

#include "text/json_fields.h"
#include "text/vocabulary.h"

namespace forerun {

// Reads the `normalizer` and `pre_tokenizer` of a tokenizer.json into the flags of a vocabulary:
// style, pre-tokenizer, NFC, how a leading space is added. These fields can hold arbitrary
// programs; what is recognised is the set of those that byte-level and SentencePiece-style models
// use, regular expressions by their text. Anything else is Error(kUnsupported) naming the
// component.
void read_hf_pipeline(const JsonField& tokenizer, Vocabulary& vocabulary);

}  // namespace forerun
