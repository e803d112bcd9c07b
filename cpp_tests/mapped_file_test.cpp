#include "weights/mapped_file.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "weights/format_error.h"

namespace pf::weights {
namespace {

class MappedFileTest : public ::testing::Test {
 protected:
  std::filesystem::path write(std::string_view content) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() / (std::string("pageform_") + test->name());
    std::ofstream(path_, std::ios::binary) << content;
    return path_;
  }
  void TearDown() override {
    if (!path_.empty()) std::filesystem::remove(path_);
  }

 private:
  std::filesystem::path path_;
};

TEST_F(MappedFileTest, HoldsTheFilesBytes) {
  const auto file = MappedFile::open(write("hello").string());
  EXPECT_EQ(std::string(file->bytes().begin(), file->bytes().end()), "hello");
}

TEST_F(MappedFileTest, DroppedPagesComeBack) {
  const std::string content(100'000, 'x');
  const auto file = MappedFile::open(write(content).string());
  file->drop(0, content.size());
  file->drop(5000, 1);
  file->drop(content.size(), 0);
  EXPECT_EQ(file->bytes()[50'000], 'x');
  EXPECT_THROW(file->drop(0, content.size() + 1), std::out_of_range);
  EXPECT_THROW(file->drop(UINT64_MAX, 2), std::out_of_range);
}

TEST_F(MappedFileTest, RefusesWhatIsNoFile) {
  EXPECT_THROW(MappedFile::open("/nonexistent/file"), std::system_error);
  EXPECT_THROW(MappedFile::open("/"), FormatError);
  EXPECT_THROW(MappedFile::open("/dev/null"), FormatError);
  EXPECT_THROW(MappedFile::open(write("").string()), FormatError);
}

}  // namespace
}  // namespace pf::weights
