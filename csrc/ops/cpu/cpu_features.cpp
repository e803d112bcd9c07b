#include "cpu_features.h"

#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "../../runtime/errors.h"

namespace pf {
namespace {

// GCC 12 has no name for AVX-VNNI in __builtin_cpu_supports: leaf 7, subleaf 1, bit 4 of eax.
[[maybe_unused]] bool has_avx_vnni() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
#else
  return false;
#endif
}

#ifdef PF_EMULATED_VNNI  // the tests' backend
constexpr bool kEmulatedVnni = true;
#else
[[maybe_unused]] constexpr bool kEmulatedVnni = false;
#endif

constexpr Isa kWidestFirst[] = {Isa::avx512vnni, Isa::avx512, Isa::avxvnni, Isa::avx2, Isa::generic};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni:
      return "avx512vnni";
    case Isa::avx512:
      return "avx512";
    case Isa::avxvnni:
      return "avxvnni";
    case Isa::avx2:
      return "avx2";
    default:
      return "generic";
  }
}

bool isa_usable(Isa isa) {
  // __builtin_cpu_supports reads XCR0 besides cpuid, so a set whose registers the system does not save counts as
  // absent.
  switch (isa) {
#ifdef PF_HAVE_AVX512VNNI
    case Isa::avx512vnni:
      return isa_usable(Isa::avx512) && (kEmulatedVnni || __builtin_cpu_supports("avx512vnni"));
#endif
#ifdef PF_HAVE_AVX512
    case Isa::avx512:
      return isa_usable(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
#ifdef PF_HAVE_AVXVNNI
    case Isa::avxvnni:
      return isa_usable(Isa::avx2) && (kEmulatedVnni || has_avx_vnni());
#endif
#ifdef PF_HAVE_AVX2
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
    case Isa::generic:
      return true;
    default:
      return false;
  }
}

Isa choose_isa(const std::string& name) {
  std::string wanted = name;
  if (wanted.empty() || wanted == "auto") {
    const char* override_name = std::getenv("PAGEFORM_ISA");
    wanted = override_name == nullptr || *override_name == '\0' ? "auto" : override_name;
  }
  for (const Isa isa : kWidestFirst) {
    if (wanted == "auto" && isa_usable(isa)) return isa;
    if (wanted != isa_name(isa)) continue;
    if (!isa_usable(isa)) refuse("this machine cannot run the instruction set \"", wanted, "\"; use \"auto\"");
    return isa;
  }
  refuse("unknown instruction set \"", wanted, "\"; known are auto, generic, avx2, avxvnni, avx512 and avx512vnni");
}

}  // namespace pf
