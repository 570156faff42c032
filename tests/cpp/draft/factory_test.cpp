#include "draft/factory.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace forerun {
namespace {

TEST(DraftFactory, ReadsDraftStrings) {
  EXPECT_TRUE(parse_draft("none").empty());
  EXPECT_EQ(parse_draft("auto").names, (std::vector<std::string>{"ngram", "recycle"}));
  EXPECT_EQ(parse_draft("recycle").names, (std::vector<std::string>{"recycle"}));
  const DraftPlan all = parse_draft("ngram+model:/a/b.gguf+recycle");
  EXPECT_EQ(all.names, (std::vector<std::string>{"ngram", "model", "recycle"}));
  EXPECT_EQ(all.model_path, "/a/b.gguf");
  const DraftPlan plus = parse_draft("ngram+model:/c++/x+y.gguf");
  EXPECT_EQ(plus.model_path, "/c++/x+y.gguf");
  EXPECT_EQ(parse_draft("model:/c++/x.gguf+ngram").model_path, "/c++/x.gguf");
}

TEST(DraftFactory, RefusesUnknownRepeatedAndEmptyNamesListingTheRightOnes) {
  for (const char* bad : {"", "medusa", "ngram+", "+ngram", "ngram+ngram", "model:", "model",
                          "none+ngram", "NGRAM"}) {
    try {
      parse_draft(bad);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
      EXPECT_NE(std::string(error.what()).find("ngram, recycle, model:PATH"), std::string::npos);
    }
  }
}

TEST(DraftFactory, MakesWhatThePlanNames) {
  DraftResources resources;
  resources.vocab = 16;
  EXPECT_EQ(make_drafter(parse_draft("none"), resources), nullptr);
  EXPECT_EQ(make_drafter(parse_draft("ngram"), resources)->name(), "ngram");
  EXPECT_THROW(make_drafter(parse_draft("recycle"), resources), Error);
  EXPECT_THROW(make_drafter(parse_draft("model:x"), resources), Error);
  EXPECT_THROW(make_drafter(DraftPlan{{"eagle"}, ""}, resources), Error);
  resources.prepare(parse_draft("auto"));
  EXPECT_EQ(make_drafter(parse_draft("auto"), resources)->name(), "ngram+recycle");
  resources.policy = "bush";
  EXPECT_THROW(resources.prepare(parse_draft("model:x")), Error);
}

}  // namespace
}  // namespace forerun
