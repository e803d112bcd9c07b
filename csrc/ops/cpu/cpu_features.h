// Which instruction sets this build holds kernels for, and which of them this machine and its operating system run.
#pragma once
#include <string>

namespace pf {

enum class Isa { generic, avx2, avxvnni, avx512, avx512vnni };

const char* isa_name(Isa isa);

// True when the kernels were built and both processor and operating system support the set (AVX state saved on a switch
// of threads).
bool isa_usable(Isa isa);

// The set named: "auto" (or empty) takes the environment variable PAGEFORM_ISA if set, else the widest usable one.
// Throws std::invalid_argument for an unknown name or a set that is not usable here.
Isa choose_isa(const std::string& name);

}  // namespace pf
