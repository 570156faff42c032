// Loading a model against reading its file: seconds and GB/s of the file's bytes for a plain read
// with the file out of the page cache ("cold", as far as the system drops it) and in it ("warm"),
// for loading the model warm and cold, and for packing weights of a type that are in memory. Prints
// one JSON line.
//   load_bench FILE.gguf [threads]
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/cpu_features.h"
#include "base/dtype.h"
#include "io/checkpoint.h"
#include "model/model.h"

namespace forerun {
namespace {

template <typename Body>
double seconds_of(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t read_all(const char* path) {
  const int file = open(path, O_RDONLY);
  std::vector<char> buffer(size_t{4} << 20);
  int64_t total = 0;
  for (ssize_t got = 1; file >= 0 && got > 0; total += got) {
    got = read(file, buffer.data(), buffer.size());
    if (got < 0) break;
  }
  if (file >= 0) close(file);
  return total;
}

void drop_from_cache(const char* path) {
  const int file = open(path, O_RDONLY);
  if (file < 0) return;
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

void print(const char* name, double seconds, double bytes) {
  std::printf(", \"%s\": {\"s\": %.3f, \"gbs\": %.2f}", name, seconds, bytes / seconds / 1e9);
  std::fflush(stdout);
}

double load_seconds(const char* path, int threads) {
  return seconds_of([&] {
    const auto backend = std::shared_ptr<Backend>(make_cpu_backend(threads));
    Model::load(open_checkpoint(path), backend);
  });
}

void pack_speed(DType dtype, int threads) {
  constexpr int64_t kRows = 8192, kCols = 8192;
  const auto backend = make_cpu_backend(threads);
  const std::vector<std::byte> bytes(static_cast<size_t>(dtype_bytes(dtype, kRows * kCols)));
  const HostMatrix matrix = {dtype, kRows, kCols, bytes.data()};
  double best = seconds_of([&] { backend->pack(matrix); });
  for (int i = 0; i < 3; ++i) best = std::min(best, seconds_of([&] { backend->pack(matrix); }));
  print(("pack_" + std::string(dtype_info(dtype).name)).c_str(), best,
        static_cast<double>(bytes.size()));
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "load_bench FILE.gguf [threads]\n");
    return 2;
  }
  const char* path = argv[1];
  const int threads = argc > 2 ? std::atoi(argv[2]) : 0;
  struct stat status = {};
  stat(path, &status);
  const auto bytes = static_cast<double>(status.st_size);
  std::printf("{\"cpu\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"mb\": %.1f",
              cpu_features().model.c_str(), isa_name(selected_isa()), threads, bytes / 1e6);
  drop_from_cache(path);
  print("read_cold", seconds_of([&] { read_all(path); }), bytes);
  print("read_warm", seconds_of([&] { read_all(path); }), bytes);
  print("load_warm", load_seconds(path, threads), bytes);
  drop_from_cache(path);
  print("load_cold", load_seconds(path, threads), bytes);
  for (const DType dtype : {DType::kQ4_1, DType::kQ4_K, DType::kQ6_K, DType::kQ8_0, DType::kF16}) {
    pack_speed(dtype, threads);
  }
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) { return forerun::run(argc, argv); }
