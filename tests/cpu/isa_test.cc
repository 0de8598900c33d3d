// Choice of the kernel table by name and by environment.
#include "cpu/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "cpu/cpu_device.h"

namespace erne {
namespace {

TEST(IsaTest, GenericIsAlwaysThereAndTheBestIsTheDefault) {
  const std::vector<std::string> isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), "generic");
  ::unsetenv("ERNE_ISA");
  EXPECT_EQ(cpu::select_kernels("").name, isas.back());
}

TEST(IsaTest, EveryAvailableTableIsComplete) {
  for (const std::string& isa : available_isas()) {
    const cpu::Kernels& k = cpu::select_kernels(isa);
    EXPECT_EQ(k.name, isa);
    EXPECT_TRUE(k.linear_f32.run && k.linear_f32.scratch_bytes && k.linear_bf16.run &&
                k.linear_bf16.scratch_bytes && k.rms_norm && k.rotate &&
                k.attention_scratch_bytes && k.attend_f32 && k.attend_mixed && k.attend_bf16 &&
                k.merge && k.finish_row && k.dot_rows && k.combine)
        << isa;
    for (const auto& kernels : k.linear_codes) {
      for (const cpu::LinearKernel& kernel : kernels)
        EXPECT_TRUE(kernel.run && kernel.scratch_bytes && kernel.block_rows) << isa;
    }
  }
}

TEST(IsaTest, EnvironmentChoosesUnlessANameIsGiven) {
  ::setenv("ERNE_ISA", "generic", 1);
  EXPECT_STREQ(cpu::select_kernels("").name, "generic");
  EXPECT_THAT(make_cpu_device(1)->info().detail, testing::HasSubstr("generic"));
  EXPECT_EQ(cpu::select_kernels(available_isas().back()).name, available_isas().back());
  ::unsetenv("ERNE_ISA");
}

TEST(IsaTest, RefusesUnknownNamesAndListsWhatThereIs) {
  try {
    cpu::select_kernels("avx1024");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("avx1024"), testing::HasSubstr("generic")));
  }
}

}  // namespace
}  // namespace erne
