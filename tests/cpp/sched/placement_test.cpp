#include "sched/placement.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/affinity.h"
#include "base/error.h"
#include "io/temp_folder.h"

namespace forerun {
namespace {

std::string complaint(const std::string& json, int32_t layers = 8) {
  try {
    parse_placement(json, layers, "here");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
    return error.what();
  }
  return "";
}

TEST(Placement, SavedAndReadAgainIsTheSame) {
  const Placement all[] = {placed_on("cpu", 8),
                           placed_on("cuda", 8),
                           dovetailed("cpu", "cuda:1", 8, 0),
                           dovetailed("cpu", "cuda:0", 8, 3),
                           dovetailed("cpu", "cuda:0", 8, 8),
                           {{{0, 2, "cuda:0"}, {2, 7, "cpu"}, {7, 8, "cuda:1"}}, "cpu", "cuda:1"},
                           {{{0, 8, "cpu"}}, "cpu", "cuda:0", {"cuda:1", "cuda:2"}},
                           {{{0, 8, "cpu"}}, "cpu", "cuda:0", {}, {6, 3, 2.75}}};
  for (const Placement& placement : all) {
    EXPECT_EQ(parse_placement(placement_json(placement), 8, "json"), placement)
        << placement_text(placement);
  }
}

TEST(Placement, ReadsRangesInAnyOrderAndJoinsNeighbours) {
  const Placement found = parse_placement(
      R"({"layers": {"3": "cuda", "0-1": "cpu", "2": "cpu", "4-7": "cuda:0"}, "why": "a plan"})", 8,
      "here");
  const Placement wanted = {{{0, 3, "cpu"}, {3, 8, "cuda:0"}}, "cuda:0", "cuda:0"};
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(placement_text(found), "layers 0-2 cpu, 3-7 cuda:0, head cuda:0, draft cuda:0");
  EXPECT_EQ(found.device_of(2), "cpu");
  EXPECT_EQ(found.device_of(3), "cuda:0");
  EXPECT_EQ(found.devices(), (std::vector<std::string>{"cpu", "cuda:0"}));
}

TEST(Placement, ADraftIsApartWhenNoPartOfTheTargetIsBesideIt) {
  EXPECT_FALSE(placed_on("cpu", 8).draft_is_apart());
  EXPECT_TRUE(dovetailed("cpu", "cuda:0", 8, 0).draft_is_apart());
  EXPECT_FALSE(dovetailed("cpu", "cuda:0", 8, 1).draft_is_apart());
  const Placement head_only = {{{0, 8, "cpu"}}, "cuda:0", "cuda:0"};
  EXPECT_FALSE(head_only.draft_is_apart());
}

TEST(Placement, ADraftMayHaveSeveralDevices) {
  const Placement found =
      parse_placement(R"({"layers": "cpu:0", "draft": ["cuda", "cpu:1"]})", 8, "here");
  EXPECT_EQ(found.draft, "cuda:0");
  EXPECT_EQ(found.draft_beside, std::vector<std::string>{"cpu:1"});
  EXPECT_EQ(found.devices(), (std::vector<std::string>{"cpu:0", "cuda:0", "cpu:1"}));
  EXPECT_EQ(placement_text(found), "layers 0-7 cpu:0, head cpu:0, draft cuda:0 and cpu:1");
  EXPECT_TRUE(found.draft_is_apart());
  EXPECT_FALSE(found.draft_borrows());
  for (const char* own : {R"("cpu:0")", R"("cpu:1")"}) {
    const std::string text = R"({"layers": {"0-6": "cpu:0", "7": "cpu:1"}, "draft": ["cuda", )" +
                             std::string(own) + "]}";
    EXPECT_TRUE(parse_placement(text, 8, "here").draft_borrows());
  }
  for (const char* draft : {"[]", R"(["cpu", "cpu"])", "[3]", R"(["cpu:0-1", "cpu:1"])"}) {
    EXPECT_NE(complaint(R"({"layers": "cuda", "draft": )" + std::string(draft) + "}"), "") << draft;
  }
}

TEST(Placement, KeepsTheTreeOfAPlan) {
  const auto tree_of = [](const std::string& members) {
    return parse_placement(R"({"layers": "cpu")" + members + "}", 8, "here");
  };
  const Placement found = tree_of(R"(, "nodes": 7, "depth": 4, "tokens": 3.5)");
  EXPECT_EQ(found.tree, (PlannedTree{7, 4, 3.5}));
  EXPECT_EQ(placement_text(found),
            "layers 0-7 cpu, head cpu, draft cpu, planned tree 7 nodes, 4 deep");
  EXPECT_EQ(tree_of("").tree, PlannedTree{});
  EXPECT_EQ(tree_of(R"(, "nodes": 0, "depth": 0, "tokens": 1.0)").tree, PlannedTree{});
  for (const char* wrong :
       {R"(, "nodes": 7)", R"(, "depth": 2)", R"(, "nodes": 2, "depth": 3)",
        R"(, "nodes": -1, "depth": 1)", R"(, "nodes": 1000, "depth": 1)",
        R"(, "nodes": 2, "depth": 2, "tokens": 0.5)", R"(, "nodes": 2, "depth": 2, "tokens": 9)",
        R"(, "nodes": "2", "depth": 2)", R"(, "nodes": 2.5, "depth": 2)",
        R"(, "nodes": 2, "depth": 2, "tokens": "many")"}) {
    EXPECT_NE(complaint(R"({"layers": "cpu")" + std::string(wrong) + "}").find("here"),
              std::string::npos)
        << wrong;
  }
}

TEST(Placement, SaysWhatIsWrong) {
  EXPECT_NE(complaint("{").find("here"), std::string::npos);
  EXPECT_NE(complaint("{}").find("needs 'layers'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-6": "cpu"}})").find("has 8"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-8": "cpu"}})").find("has 8"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-4": "cpu", "4-7": "cuda"}})").find("layers 4-7 follow"),
            std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-3": "cpu", "5-7": "cuda"}})").find("layers 5-7 follow"),
            std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"7-0": "cpu"}})").find("'7-0'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-2147483646": "cpu"}})").find("has 8"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": {"0-2147483647": "cpu"}})").find("'0-2147483647'"),
            std::string::npos);
  EXPECT_NE(complaint(R"({"layers": "tpu"})").find("'tpu'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": "cuda:x"})").find("'cuda:x'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": 8})").find("'layers'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": "cpu", "head": 3})").find("'head'"), std::string::npos);
  EXPECT_NE(complaint(R"({"layers": "cpu:99999"})").find("core 99999"), std::string::npos);
}

TEST(Placement, CpuDevicesShareNoCore) {
  const std::vector<int> cores = usable_cores();
  const std::string first = "cpu:" + std::to_string(cores[0]);
  Placement placement = dovetailed("cpu", first, 8, 0);
  EXPECT_THROW(check_placement(placement, 8), Error);
  placement = placed_on(first, 8);
  EXPECT_NO_THROW(check_placement(placement, 8));
  if (cores.size() > 1) {
    EXPECT_NO_THROW(check_placement(dovetailed(first, "cpu:" + std::to_string(cores[1]), 8, 0), 8));
  }
}

TEST(Placement, ComesByNameAsTextOrFromAFile) {
  EXPECT_EQ(read_placement("cpu", 8), placed_on("cpu", 8));
  EXPECT_EQ(read_placement("cuda", 8), placed_on("cuda:0", 8));
  const Placement split = dovetailed("cpu", "cuda:0", 8, 2);
  EXPECT_EQ(read_placement(placement_json(split), 8), split);
  const test::TempFolder folder;
  EXPECT_EQ(read_placement(folder.write("plan.json", placement_json(split)), 8), split);
  EXPECT_THROW(read_placement("/nowhere/plan.json", 8), Error);
}

TEST(CoreSets, AreReadAndWrittenInTheShortestForm) {
  const std::vector<int> cores = usable_cores();
  EXPECT_EQ(parse_cores(cores_text(cores)), cores);
  EXPECT_EQ(cores_text(std::vector<int>{0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
  const std::string one = std::to_string(cores[0]);
  EXPECT_EQ(parse_cores(one + "-" + one), std::vector<int>{cores[0]});
  for (const std::string& wrong :
       std::vector<std::string>{"", "a", "1-", "-1", "2-1", one + "," + one, one + ",,", " 0"}) {
    EXPECT_THROW(parse_cores(wrong), Error) << wrong;
  }
}

}  // namespace
}  // namespace forerun
