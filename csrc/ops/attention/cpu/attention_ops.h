// The ops of the family, each in a file of its own, as one instruction set sees them.
#pragma once
#include "../../cpu/kernels.h"

namespace pf::PF_ISA {

void rope_angles(const PfCall& call, const PfStep& step, Worker& worker);
void rope(const PfCall& call, const PfStep& step, Worker& worker);
void cache_write(const PfCall& call, const PfStep& step, Worker& worker);
void attention(const PfCall& call, const PfStep& step, Worker& worker);

}  // namespace pf::PF_ISA
