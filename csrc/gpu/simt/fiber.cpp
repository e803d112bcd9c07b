#include "fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace pf::simt {
namespace {

// Who switched and to whom: read on arrival, before anything else runs on this OS thread.
thread_local Fiber* g_from = nullptr;
thread_local Fiber* g_to = nullptr;

}  // namespace

void Fiber::arrived() {
#if defined(__SANITIZE_ADDRESS__)
  const void* left = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(g_to->fake_stack_, &left, &bytes);
  if (g_from->stack_ == nullptr) {
    g_from->stack_ = left;
    g_from->stack_bytes_ = bytes;
  }
#endif
}

void Fiber::begin() {
  arrived();
  g_to->entry_();
}

#if defined(__x86_64__)

extern "C" void pf_simt_switch(void** save, void* load);
asm(R"(
.text
.globl pf_simt_switch
.hidden pf_simt_switch
.type pf_simt_switch,@function
pf_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pf_simt_switch,.-pf_simt_switch
)");

#endif

void Fiber::start(char* stack, size_t bytes, void (*entry)()) {
  stack_ = stack;
  stack_bytes_ = bytes;
  fake_stack_ = nullptr;
  entry_ = entry;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, bytes);  // a kernel that failed left its frames' red zones behind
#endif
#if defined(__x86_64__)
  // The first switch pops six registers and returns into begin(), whose frame must be aligned as after a call.
  void** top = reinterpret_cast<void**>(stack + bytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::begin);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::begin, 0);
#endif
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  g_from = &from;
  g_to = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
#endif
#if defined(__x86_64__)
  pf_simt_switch(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
  arrived();
}

}  // namespace pf::simt
