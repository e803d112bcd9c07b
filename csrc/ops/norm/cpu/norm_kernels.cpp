#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"

namespace pf::PF_ISA {

const OpTable& norm_ops() {
  static const OpTable table = {nullptr, 0};
  return table;
}

}  // namespace pf::PF_ISA
