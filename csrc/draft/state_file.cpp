#include "draft/state_file.h"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>

#include "base/error.h"
#include "base/hash.h"

namespace forerun {
namespace {

constexpr std::string_view kMagic = "FRDRAFT1";
constexpr size_t kNameBytes = 16;
constexpr uint32_t kMostSections = 64;

struct Header {
  char magic[8];
  uint32_t sections;
  uint32_t zero;
  uint64_t fingerprint;
};
static_assert(sizeof(Header) == 24);

std::string_view bytes_of(const Header& header) {
  return {reinterpret_cast<const char*>(&header), sizeof(header)};
}

[[noreturn]] void refuse_write(const std::string& path) {
  throw Error(ErrorKind::kBadArgument,
              path + ": cannot be written: " + std::generic_category().message(errno));
}

}  // namespace

void StateWriter::begin_section(std::string_view name) {
  sections_.push_back({std::string(name), {}});
}

void StateWriter::put_text(std::string_view text) {
  put(static_cast<uint64_t>(text.size()));
  sections_.back().bytes.append(text);
}

void StateWriter::write(const std::string& path) const {
  Header header{};
  kMagic.copy(header.magic, kMagic.size());
  header.sections = static_cast<uint32_t>(sections_.size());
  header.fingerprint = fingerprint_;
  const std::string unfinished = path + ".part";
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  const auto number = [&file](uint64_t value) {
    file.write(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  file << bytes_of(header);
  number(hash_bytes(bytes_of(header)));
  for (const Section& section : sections_) {
    std::string name = section.name;
    name.resize(kNameBytes);
    file << name;
    number(section.bytes.size());
    number(hash_bytes(section.bytes, hash_bytes(name)));
    file << section.bytes;
  }
  file.close();
  if (!file) refuse_write(unfinished);
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) refuse_write(path);
}

StateReader::StateReader(const std::string& path, uint64_t fingerprint)
    : file_(MappedFile::open(path)) {
  ByteCursor cursor(file_->bytes(), file_->path());
  Header header{};
  cursor.take(sizeof(header), "header").copy(reinterpret_cast<char*>(&header), sizeof(header));
  if (std::string_view(header.magic, sizeof(header.magic)) != kMagic) {
    cursor.fail("not a file of saved drafts: it begins with " +
                in_quotes({header.magic, sizeof(header.magic)}) + ", expected '" +
                std::string(kMagic) + "'");
  }
  if (cursor.read<uint64_t>("hash") != hash_bytes(bytes_of(header))) cursor.fail("is damaged");
  if (header.fingerprint != fingerprint) {
    cursor.fail("was saved for a model with another vocabulary");
  }
  if (header.sections > kMostSections) cursor.fail("too many sections");
  for (uint32_t i = 0; i < header.sections; ++i) {
    cursor.set_field("section " + std::to_string(i));
    const std::string_view field = cursor.take(kNameBytes, "name");
    std::string name(field);
    name.resize(name.find('\0') == std::string::npos ? kNameBytes : name.find('\0'));
    const auto size = cursor.read<uint64_t>("size");
    const auto hash = cursor.read<uint64_t>("hash");
    const std::string_view bytes = cursor.take(size, "content");
    if (hash_bytes(bytes, hash_bytes(field)) != hash) cursor.fail("is damaged");
    sections_.push_back({name, std::as_bytes(std::span(bytes))});
  }
  cursor.set_field("end");
  if (cursor.remaining() > 0) {
    cursor.fail(std::to_string(cursor.remaining()) + " bytes too many");
  }
}

ByteCursor StateReader::section(std::string_view name) const {
  for (const Section& section : sections_) {
    if (section.name != name) continue;
    ByteCursor cursor(section.bytes, file_->path());
    cursor.set_field(section.name);
    return cursor;
  }
  bad_file(file_->path(), name,
           "the file has no such section; was that drafter in use when it was saved?");
}

}  // namespace forerun
