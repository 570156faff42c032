#include "base/trace.h"

#include <gtest/gtest.h>

#include <string>

namespace forerun {
namespace {

void operation(TraceRecorder& recorder, const char* name) {
  const TraceScope scope(&recorder, TraceTrack::kOperation, name);
}

TEST(TraceRecorder, GivesSpansInTheOrderInWhichTheyEndAndEmptiesItself) {
  TraceRecorder recorder(8);
  {
    TraceScope step(&recorder, TraceTrack::kStep, "step", 2);
    const TraceScope stage(&recorder, TraceTrack::kStage, "draft");
    operation(recorder, "add");
    step.span.rows = 3;
    step.span.bytes = 17;
    step.span.operations = 5;
  }
  const std::vector<TraceSpan> spans = recorder.take();
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_STREQ(spans[0].name, "add");
  EXPECT_STREQ(spans[1].name, "draft");
  EXPECT_STREQ(spans[2].name, "step");
  EXPECT_EQ(spans[0].track, TraceTrack::kOperation);
  EXPECT_EQ(spans[2].rows, 3);
  EXPECT_EQ(spans[2].bytes, 17);
  EXPECT_EQ(spans[2].operations, 5);
  EXPECT_TRUE(recorder.take().empty());
}

TEST(TraceRecorder, InnerSpansLieInsideOuterOnes) {
  TraceRecorder recorder(8);
  {
    const TraceScope step(&recorder, TraceTrack::kStep, "step");
    operation(recorder, "first");
    operation(recorder, "second");
  }
  const std::vector<TraceSpan> spans = recorder.take();
  const auto end = [](const TraceSpan& span) { return span.start_ns + span.duration_ns; };
  EXPECT_LE(spans[2].start_ns, spans[0].start_ns);
  EXPECT_LE(end(spans[0]), spans[1].start_ns);
  EXPECT_LE(end(spans[1]), end(spans[2]));
}

TEST(TraceRecorder, NumbersStepsAndWhatIsInsideThem) {
  TraceRecorder recorder(16);
  operation(recorder, "before");
  for (int i = 0; i < 2; ++i) {
    const TraceScope step(&recorder, TraceTrack::kStep, "step");
    operation(recorder, "inside");
  }
  operation(recorder, "after");
  std::vector<int32_t> numbers;
  for (const TraceSpan& span : recorder.take()) numbers.push_back(span.step);
  EXPECT_EQ(numbers, (std::vector<int32_t>{-1, 0, 0, 1, 1, -1}));
}

TEST(TraceRecorder, KeepsTheNewestStepsWhole) {
  TraceRecorder recorder(8);
  for (int i = 0; i < 5; ++i) {
    const TraceScope step(&recorder, TraceTrack::kStep, "step");
    operation(recorder, "one");
    operation(recorder, "two");
  }
  // 15 spans in a ring of 8: steps 3 and 4, and two of the three of step 2, which are dropped.
  std::vector<std::string> seen;
  for (const TraceSpan& span : recorder.take()) {
    seen.push_back(std::to_string(span.step) + " " + span.name);
  }
  EXPECT_EQ(seen,
            (std::vector<std::string>{"3 one", "3 two", "3 step", "4 one", "4 two", "4 step"}));
}

TEST(TraceScope, DoesNothingWithoutARecorder) {
  TraceScope scope(nullptr, TraceTrack::kStep, "step");
  scope.span.bytes = 1;
}

}  // namespace
}  // namespace forerun
