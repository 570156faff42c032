#include "draft/factory.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace forerun {
namespace {

std::vector<std::string> names(const DraftPlan& plan) {
  std::vector<std::string> out;
  for (const DraftPart& part : plan.parts) out.push_back(part.name);
  return out;
}

TEST(DraftFactory, ReadsDraftStrings) {
  EXPECT_TRUE(parse_draft("none").empty());
  EXPECT_EQ(names(parse_draft("auto")), (std::vector<std::string>{"suffix", "trigram"}));
  EXPECT_EQ(names(parse_draft("recycle+auto")),
            (std::vector<std::string>{"recycle", "suffix", "trigram"}));
  EXPECT_EQ(names(parse_draft("head:a+b+auto")),
            (std::vector<std::string>{"head", "suffix", "trigram"}));
  EXPECT_EQ(parse_draft("auto+head:a+b").parts.back().path, "a+b");
  EXPECT_THROW(parse_draft("auto+suffix"), Error);
  EXPECT_EQ(names(parse_draft("recycle")), (std::vector<std::string>{"recycle"}));
  DraftPlan all = parse_draft("ngram+model:/a/b.gguf+recycle");
  EXPECT_EQ(names(all), (std::vector<std::string>{"ngram", "model", "recycle"}));
  EXPECT_EQ(all.find("model")->path, "/a/b.gguf");
  EXPECT_EQ(parse_draft("ngram+model:/c++/x+y.gguf").find("model")->path, "/c++/x+y.gguf");
  EXPECT_EQ(parse_draft("model:/c++/x.gguf+ngram").find("model")->path, "/c++/x.gguf");
}

TEST(DraftFactory, RefusesUnknownRepeatedAndEmptyNamesListingTheRightOnes) {
  for (const char* bad : {"", "medusa", "ngram+", "+ngram", "ngram+ngram", "model:", "model",
                          "none+ngram", "NGRAM", "ngram:x"}) {
    try {
      parse_draft(bad);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
      EXPECT_NE(
          std::string(error.what())
              .find("none, auto, ngram, suffix, recycle, trigram, retrieval:PATH, model:PATH"),
          std::string::npos);
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
  EXPECT_THROW(make_drafter(DraftPlan{{{"eagle", "", {}}}}, resources), Error);
  DraftPlan automatic = parse_draft("auto");
  resources.prepare(automatic);
  EXPECT_EQ(make_drafter(parse_draft("auto"), resources)->name(), "suffix+trigram");
  resources.policy = "bush";
  DraftPlan model = parse_draft("model:x");
  EXPECT_THROW(resources.prepare(model), Error);
}

TEST(DraftFactory, RefusesOptionsOfDraftersThatAreNotInUseAndUnknownOnes) {
  EXPECT_THROW(parse_draft("ngram", {{"recycle.size", "3"}}), Error);
  DraftPlan plan = parse_draft("ngram", {{"ngram.colour", "3"}, {"match.x", "1"}});
  DraftResources resources;
  EXPECT_THROW(resources.prepare(plan), Error);
}

}  // namespace
}  // namespace forerun
